-- What a message is: its kind, and what was rendered of it once, for every attempt. Both are null in rows of the versions before:
-- these are contacts, and their cards are in the columns `card`, `card_account` and `card_account_known`, which newer rows leave
-- empty. Rows are not rewritten: the purge takes the old ones.
ALTER TABLE messages ADD COLUMN kind TEXT;
ALTER TABLE messages ADD COLUMN rendition TEXT;
-- What the caller calls it.
ALTER TABLE messages ADD COLUMN reference TEXT;
-- When a scheduled message is due; null where it was queued at once.
ALTER TABLE messages ADD COLUMN send_at INTEGER;
