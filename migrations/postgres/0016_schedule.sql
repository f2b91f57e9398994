-- As SQLite's migration of this number. Nodes of the previous version schedule nothing.
CREATE TABLE schedule (
    seq         bigint NOT NULL PRIMARY KEY,
    due_at      bigint NOT NULL,
    channel_key bigint NOT NULL
);
CREATE INDEX schedule_by_time ON schedule (due_at, seq DESC);
CREATE INDEX schedule_of_channel ON schedule (channel_key);
