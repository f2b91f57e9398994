-- As SQLite's migration of this number.
CREATE INDEX CONCURRENTLY IF NOT EXISTS content_to_delete_of_channel ON content_to_delete (channel_key, next_at);
