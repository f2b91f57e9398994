-- What networks delivered and the store refused, until it takes it.
CREATE TABLE refused_arrivals (
    channel_key INTEGER NOT NULL,
    -- A hash of chat, author and network id.
    id          BLOB NOT NULL,
    -- Whom it is from, or in whose chat it is: the names with a space before and behind each. An erasure finds it by them.
    names       TEXT NOT NULL,
    sealed      BLOB NOT NULL,
    -- When it arrived.
    since       INTEGER NOT NULL,
    tries       INTEGER NOT NULL,
    -- When the next try is due.
    next_at     INTEGER NOT NULL,
    PRIMARY KEY (channel_key, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX refused_arrivals_due ON refused_arrivals (next_at);
