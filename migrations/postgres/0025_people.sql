-- As SQLite's migration of this number.
ALTER TABLE conversations ADD COLUMN former_addresses text;
CREATE INDEX messages_by_account ON messages (channel_key, account) WHERE account <> recipient;
CREATE INDEX events_of_owner ON events (institution_id, environment, seq) WHERE complete;
CREATE INDEX accounts_of_channel ON accounts (channel_key, account) WHERE account IS NOT NULL;
CREATE INDEX votes_by_voter ON poll_votes (voter);
