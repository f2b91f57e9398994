-- As SQLite's migration of this number.
CREATE INDEX content_to_delete_of_channel ON content_to_delete (channel_key, next_at);
