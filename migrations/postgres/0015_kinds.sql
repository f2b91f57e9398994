-- As SQLite's migration of this number. Nodes of the previous version read cards, and so new rows have cards as long as such a
-- node is there.
ALTER TABLE messages
    ADD COLUMN kind text,
    ADD COLUMN rendition text,
    ADD COLUMN reference text,
    ADD COLUMN send_at bigint,
    ALTER COLUMN card DROP NOT NULL,
    ALTER COLUMN card_account DROP NOT NULL,
    ALTER COLUMN card_account_known DROP NOT NULL;

-- What a node understands. 0: cards alone. A node of the previous version does not know of this column.
ALTER TABLE nodes ADD COLUMN level integer NOT NULL DEFAULT 0;

-- `contact` has always held the whole payload. Nodes of the previous version show `vcard`, which newer rows leave empty.
ALTER TABLE sandbox_phone ADD COLUMN kind text, ADD COLUMN rendition text;
