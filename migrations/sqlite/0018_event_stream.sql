-- Events of every kind. SQLite cannot take NOT NULL from a column, so the table is built anew: there are few events, because
-- nothing has switched on those of messages so far. The numbers go on.
CREATE TABLE events_next (
    seq             INTEGER PRIMARY KEY AUTOINCREMENT,
    -- Null where the event belongs to no channel. Then the next two say whose it is.
    channel_key     INTEGER REFERENCES channels (key),
    institution_id  BLOB,
    environment     TEXT,
    -- The outbound message that the event is about.
    message_seq     INTEGER,
    kind            TEXT NOT NULL,
    at              INTEGER NOT NULL,
    data            TEXT NOT NULL,
    node            TEXT,
    -- Whether `data` is what readers receive, or what the gateway makes that of.
    complete        INTEGER NOT NULL DEFAULT 0,
    -- What a complete event is about: the id of a message, a conversation or a contact.
    subject         BLOB,
    conversation_id BLOB,
    -- Null: a chat with one person, or no chat.
    chat_kind       TEXT,
    -- What was known of the outbound message at the time of the event.
    account         TEXT,
    remote_id       TEXT
);
INSERT INTO events_next (seq, channel_key, message_seq, kind, at, data, node)
    SELECT seq, channel_key, message_seq, kind, at, data, node FROM events;
INSERT INTO sqlite_sequence (name, seq)
    SELECT 'events_next', 0 WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'events_next');
UPDATE sqlite_sequence SET seq = ifnull((SELECT seq FROM sqlite_sequence WHERE name = 'events'), 0)
    WHERE name = 'events_next';
DROP TABLE events;
ALTER TABLE events_next RENAME TO events;
CREATE INDEX events_by_channel ON events (channel_key, seq) WHERE message_seq IS NULL AND NOT complete;
CREATE INDEX channel_events_by_age ON events (at) WHERE message_seq IS NULL AND NOT complete;
CREATE INDEX stream_events ON events (seq) WHERE message_seq IS NOT NULL OR complete;
CREATE INDEX events_by_message ON events (message_seq) WHERE message_seq IS NOT NULL;
CREATE INDEX events_by_subject ON events (subject) WHERE subject IS NOT NULL;

-- Whether the readers of an institution want `message.queued`, which would cost each accepted message a row.
ALTER TABLE event_consumers ADD COLUMN queued INTEGER NOT NULL DEFAULT 1;
ALTER TABLE channels ADD COLUMN records_queued INTEGER NOT NULL DEFAULT 0;
UPDATE channels SET records_queued = records_messages;

-- The event log of an institution: patterns with spaces between them. Without a row nobody has opened the stream.
CREATE TABLE event_logs (
    institution_id BLOB NOT NULL REFERENCES institutions (id),
    environment    TEXT NOT NULL,
    patterns       TEXT NOT NULL,
    PRIMARY KEY (institution_id, environment)
) STRICT, WITHOUT ROWID;

-- By which a cursor is told from one of another store.
CREATE TABLE event_identity (identity BLOB NOT NULL) STRICT;
INSERT INTO event_identity (identity) VALUES (randomblob(16));

-- One row. Events up to `deleted_until` may be gone because they were old.
CREATE TABLE event_state (
    n             INTEGER NOT NULL PRIMARY KEY CHECK (n = 1),
    deleted_until INTEGER NOT NULL
) STRICT;
