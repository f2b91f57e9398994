-- The same for conversations that are closed.
UPDATE conversations SET chat = ?1, contact_id = ?2
WHERE channel_key IN (SELECT key FROM channels WHERE institution_id = ?4 AND environment = ?5)
  AND chat = ?3 AND closed_at IS NOT NULL AND address = ?3 AND contact_id IS NULL AND wrote_at IS NULL
  AND NOT EXISTS (SELECT 1 FROM incoming m WHERE m.conversation_id = conversations.id AND m.direction = 'INBOUND')
