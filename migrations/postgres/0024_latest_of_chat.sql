-- As SQLite's migration of this number. Each index is built beside the work of the nodes, and is there before another one goes, so
-- that no statement is without one.
CREATE INDEX CONCURRENTLY IF NOT EXISTS conversations_latest_of_chat ON conversations (channel_key, chat, active_at, id);
DROP INDEX CONCURRENTLY IF EXISTS conversations_of_chat;
CREATE INDEX CONCURRENTLY IF NOT EXISTS conversations_with_address ON conversations (address, channel_key, active_at, id);
DROP INDEX CONCURRENTLY IF EXISTS conversations_by_address;
