-- Finds the due messages of one channel without reading those of the others, and also which channels have some.
DROP INDEX schedule_of_channel;
CREATE INDEX schedule_of_channel ON schedule (channel_key, due_at, seq DESC);

-- Finds the channels that were deleted a short time ago.
CREATE INDEX channels_deleted ON channels (deleted_at) WHERE deleted_at IS NOT NULL;
