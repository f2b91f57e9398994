-- Messages whose content is deleted after their events were delivered, because their channel does not keep it.
CREATE TABLE content_to_delete (
    message_id  bytea NOT NULL PRIMARY KEY,
    channel_key bigint NOT NULL,
    -- When the next look at the message is due.
    next_at     bigint NOT NULL
);
CREATE INDEX content_to_delete_due ON content_to_delete (next_at);
