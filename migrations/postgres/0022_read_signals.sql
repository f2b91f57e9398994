-- Conversations that were read here, until their network was told.
CREATE TABLE read_signals (
    conversation_id bytea   NOT NULL PRIMARY KEY,
    channel_key     bigint  NOT NULL,
    -- Which messages were read: those behind the first number, up to the second one.
    after_seq       bigint  NOT NULL,
    until_seq       bigint  NOT NULL,
    attempts        bigint  NOT NULL,
    -- When the next attempt is due. During an attempt: when it counts as lost.
    next_at         bigint  NOT NULL
);
CREATE INDEX read_signals_due ON read_signals (next_at);
CREATE INDEX read_signals_of_channel ON read_signals (channel_key, next_at);

-- When the gateway told the person that the message was read.
ALTER TABLE sandbox_incoming ADD COLUMN read_at bigint;
