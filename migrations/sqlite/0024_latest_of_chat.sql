-- The latest conversation of a chat, or with an address. Without the id at the end of the index, the planner reads all
-- conversations of the channel in the order of their activity.
DROP INDEX conversations_of_chat;
CREATE INDEX conversations_of_chat ON conversations (channel_key, chat, active_at, id);
DROP INDEX conversations_by_address;
CREATE INDEX conversations_by_address ON conversations (address, channel_key, active_at, id);
