-- What a transaction left to be done in small steps, because there were too many rows.

-- Conversations that were read, whose received messages up to a number are not all marked yet.
CREATE TABLE unfinished_reads (
    conversation_id bytea   NOT NULL PRIMARY KEY,
    until_seq       bigint  NOT NULL,
    read_at         bigint  NOT NULL
);

-- Contacts and conversations that were merged into others: not all rows that have the first id have the second one yet.
CREATE TABLE unfinished_moves (
    from_id        bytea   NOT NULL PRIMARY KEY,
    to_id          bytea   NOT NULL,
    -- CONTACT or CONVERSATION.
    kind           text    NOT NULL,
    institution_id bytea   NOT NULL,
    environment    text    NOT NULL,
    -- Of a conversation: the messages with lower numbers that calls sent were not looked at yet.
    sent_seq       bigint  NOT NULL
);
CREATE INDEX unfinished_moves_into ON unfinished_moves (to_id);
