-- As SQLite's migration of this number. A node of the previous version sends messages that join no conversation.
ALTER TABLE messages ADD COLUMN conversation_id bytea;
ALTER TABLE early_receipts ADD COLUMN pricing text;
