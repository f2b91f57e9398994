-- As SQLite's migration of this number. Each index is built beside the work of the nodes.
ALTER TABLE conversations ADD COLUMN IF NOT EXISTS former_addresses text;
CREATE INDEX CONCURRENTLY IF NOT EXISTS messages_by_account ON messages (channel_key, account) WHERE account <> recipient;
CREATE INDEX CONCURRENTLY IF NOT EXISTS events_of_owner ON events (institution_id, environment, seq) WHERE complete;
CREATE INDEX CONCURRENTLY IF NOT EXISTS accounts_of_channel ON accounts (channel_key, account) WHERE account IS NOT NULL;
CREATE INDEX CONCURRENTLY IF NOT EXISTS votes_by_voter ON poll_votes (voter);
