-- What networks delivered and the store refused, until it takes it.
CREATE TABLE refused_arrivals (
    channel_key bigint NOT NULL,
    -- A hash of chat, author and network id.
    id          bytea NOT NULL,
    -- Whom it is from, or in whose chat it is: the names with a space before and behind each. An erasure finds it by them.
    names       text NOT NULL,
    sealed      bytea NOT NULL,
    -- When it arrived.
    since       bigint NOT NULL,
    tries       bigint NOT NULL,
    -- When the next try is due.
    next_at     bigint NOT NULL,
    PRIMARY KEY (channel_key, id)
);
CREATE INDEX refused_arrivals_due ON refused_arrivals (next_at);
