-- The conversations with the number ?3 that are older than the contact ?1, whose chat is ?2, and to which nobody has written: they
-- came to the contact with the number.
UPDATE conversations SET chat = address, contact_id = NULL
WHERE contact_id = ?1 AND chat = ?2 AND address = ?3 AND created_at < ?4 AND wrote_at IS NULL
  AND NOT EXISTS (SELECT 1 FROM incoming m WHERE m.conversation_id = conversations.id AND m.direction = 'INBOUND')
  AND (closed_at IS NOT NULL OR NOT EXISTS (
      SELECT 1 FROM conversations o
      WHERE o.channel_key = conversations.channel_key AND o.chat = conversations.address AND o.closed_at IS NULL))
