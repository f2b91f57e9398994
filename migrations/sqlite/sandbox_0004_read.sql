-- When the gateway told the person that the message was read.
ALTER TABLE incoming ADD COLUMN read_at INTEGER;
