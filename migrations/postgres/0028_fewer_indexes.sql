-- As SQLite's migration of this number. Each index is there before another goes, so that no statement is without one.
CREATE INDEX CONCURRENTLY IF NOT EXISTS conversations_closed_of_chat ON conversations (channel_key, chat, active_at, id)
    WHERE closed_at IS NOT NULL;
CREATE INDEX CONCURRENTLY IF NOT EXISTS conversations_open_of_channel ON conversations (channel_key, active_at, id)
    WHERE closed_at IS NULL;
CREATE INDEX CONCURRENTLY IF NOT EXISTS conversations_closed_of_channel ON conversations (channel_key, active_at, id)
    WHERE closed_at IS NOT NULL;
CREATE INDEX CONCURRENTLY IF NOT EXISTS conversations_by_other_address ON conversations (address, channel_key)
    WHERE address <> chat;
CREATE INDEX CONCURRENTLY IF NOT EXISTS conversations_readdressed ON conversations (institution_id, environment)
    WHERE former_addresses IS NOT NULL;
DROP INDEX CONCURRENTLY IF EXISTS conversations_latest_of_chat;
DROP INDEX CONCURRENTLY IF EXISTS conversations_of_chat;
DROP INDEX CONCURRENTLY IF EXISTS conversations_by_channel;
DROP INDEX CONCURRENTLY IF EXISTS conversations_going_on;
DROP INDEX CONCURRENTLY IF EXISTS conversations_with_address;
DROP INDEX CONCURRENTLY IF EXISTS conversations_by_address;
DROP INDEX CONCURRENTLY IF EXISTS conversations_by_age;
