-- Sent messages belong to conversations too. A message of an earlier version has no conversation here: the times at which it
-- was sent and at which conversations went on decide.
ALTER TABLE messages ADD COLUMN conversation_id BLOB;
-- JSON: what the network said of the price.
ALTER TABLE early_receipts ADD COLUMN pricing TEXT;
