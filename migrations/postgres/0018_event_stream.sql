-- As SQLite's migration of this number. Nodes of the previous version need not know of it: they name none of the columns that
-- come, and record events of channels and messages alone.
ALTER TABLE events ALTER COLUMN channel_key DROP NOT NULL;
ALTER TABLE events
    ADD COLUMN institution_id  bytea,
    ADD COLUMN environment     text,
    ADD COLUMN complete        boolean NOT NULL DEFAULT false,
    ADD COLUMN subject         bytea,
    ADD COLUMN conversation_id bytea,
    ADD COLUMN chat_kind       text,
    ADD COLUMN account         text,
    ADD COLUMN remote_id       text;
DROP INDEX events_by_channel, channel_events_by_age, message_events_by_age;
CREATE INDEX events_by_channel ON events (channel_key, seq) WHERE message_seq IS NULL AND NOT complete;
CREATE INDEX channel_events_by_age ON events (at) WHERE message_seq IS NULL AND NOT complete;
CREATE INDEX stream_events ON events (seq) WHERE message_seq IS NOT NULL OR complete;
CREATE INDEX events_by_subject ON events (subject) WHERE subject IS NOT NULL;

ALTER TABLE event_consumers ADD COLUMN queued boolean NOT NULL DEFAULT true;
ALTER TABLE channels ADD COLUMN records_queued boolean NOT NULL DEFAULT false;
UPDATE channels SET records_queued = true WHERE records_messages;

CREATE TABLE event_logs (
    institution_id bytea NOT NULL REFERENCES institutions (id),
    environment    text  NOT NULL,
    patterns       text  NOT NULL,
    PRIMARY KEY (institution_id, environment)
);

CREATE TABLE event_identity (identity bytea NOT NULL);
INSERT INTO event_identity (identity) VALUES (uuid_send(gen_random_uuid()));

CREATE TABLE event_state (
    n             integer NOT NULL PRIMARY KEY CHECK (n = 1),
    deleted_until bigint  NOT NULL
);
