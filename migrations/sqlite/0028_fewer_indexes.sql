-- Each message writes into every index that has the time of the last message, and each new chat into all indexes. So the index of
-- a chat's former conversations has the closed ones alone: the active one is in `conversations_active`. Those of a channel are in
-- one of two indexes, which a list reads together. An address is only in an index if it is not the chat as well. The purge finds old
-- conversations owner by owner.
CREATE INDEX conversations_closed_of_chat ON conversations (channel_key, chat, active_at, id) WHERE closed_at IS NOT NULL;
DROP INDEX conversations_of_chat;
CREATE INDEX conversations_open_of_channel ON conversations (channel_key, active_at, id) WHERE closed_at IS NULL;
CREATE INDEX conversations_closed_of_channel ON conversations (channel_key, active_at, id) WHERE closed_at IS NOT NULL;
DROP INDEX conversations_by_channel;
DROP INDEX conversations_going_on;
CREATE INDEX conversations_by_other_address ON conversations (address, channel_key) WHERE address <> chat;
DROP INDEX conversations_by_address;
DROP INDEX conversations_by_age;
-- To erase a person, only the few conversations whose person had another number before are searched.
CREATE INDEX conversations_readdressed ON conversations (institution_id, environment) WHERE former_addresses IS NOT NULL;
