-- As SQLite's migration of this number.
DROP INDEX conversations_of_chat;
CREATE INDEX conversations_of_chat ON conversations (channel_key, chat, active_at, id);
DROP INDEX conversations_by_address;
CREATE INDEX conversations_by_address ON conversations (address, channel_key, active_at, id);
