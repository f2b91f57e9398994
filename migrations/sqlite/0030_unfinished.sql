-- What a transaction left to be done in small steps, because there were too many rows.

-- Conversations that were read, whose received messages up to a number are not all marked yet.
CREATE TABLE unfinished_reads (
    conversation_id BLOB    NOT NULL PRIMARY KEY,
    until_seq       INTEGER NOT NULL,
    read_at         INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Contacts and conversations that were merged into others: not all rows that have the first id have the second one yet.
CREATE TABLE unfinished_moves (
    from_id        BLOB    NOT NULL PRIMARY KEY,
    to_id          BLOB    NOT NULL,
    -- CONTACT or CONVERSATION.
    kind           TEXT    NOT NULL,
    institution_id BLOB    NOT NULL,
    environment    TEXT    NOT NULL,
    -- Of a conversation: the messages with lower numbers that calls sent were not looked at yet.
    sent_seq       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX unfinished_moves_into ON unfinished_moves (to_id);
