INSERT INTO early_receipts (channel_key, remote_id, status, at, error_code, error_message, received_at, pauses, pricing)
SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?9, ?10
WHERE (SELECT count(*) FROM early_receipts WHERE channel_key = ?1) < ?8
  AND EXISTS (SELECT 1 FROM channels WHERE key = ?1)
  -- A repeated receipt is stored once.
  AND NOT EXISTS (SELECT 1 FROM early_receipts WHERE channel_key = ?1 AND remote_id = ?2 AND status = ?3)
