-- The addresses under which messages of a conversation were sent before its person had another number, with spaces between.
ALTER TABLE conversations ADD COLUMN former_addresses TEXT;

-- To erase a person of one institution, nothing of other institutions is read.
CREATE INDEX messages_by_account ON messages (channel_key, account) WHERE account <> recipient;
CREATE INDEX events_of_owner ON events (institution_id, environment, seq) WHERE complete;
CREATE INDEX accounts_of_channel ON accounts (channel_key, account) WHERE account IS NOT NULL;
CREATE INDEX votes_by_voter ON poll_votes (voter);
