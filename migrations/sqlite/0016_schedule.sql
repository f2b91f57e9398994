-- Messages that are queued at a later time. Until then a message has a negative number, so that no claim reads it: its place in
-- the order of acceptance, with a minus. When it is due it gets the next number, and its row here goes.
CREATE TABLE schedule (
    seq         INTEGER NOT NULL PRIMARY KEY,
    due_at      INTEGER NOT NULL,
    channel_key INTEGER NOT NULL
) STRICT;
CREATE INDEX schedule_by_time ON schedule (due_at, seq DESC);
CREATE INDEX schedule_of_channel ON schedule (channel_key);
