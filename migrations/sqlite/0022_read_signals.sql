-- Conversations that were read here, until their network was told.
CREATE TABLE read_signals (
    conversation_id BLOB    NOT NULL PRIMARY KEY,
    channel_key     INTEGER NOT NULL,
    -- Which messages were read: those behind the first number, up to the second one.
    after_seq       INTEGER NOT NULL,
    until_seq       INTEGER NOT NULL,
    attempts        INTEGER NOT NULL,
    -- When the next attempt is due. During an attempt: when it counts as lost.
    next_at         INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX read_signals_due ON read_signals (next_at);
CREATE INDEX read_signals_of_channel ON read_signals (channel_key, next_at);
