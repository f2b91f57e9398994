-- The conversations that go on with the number ?3 and to which nobody has written become those of the contact ?2, whose chat is ?1.
-- Channel by channel, because the indexes of chats begin with the channel. Never beside another one that goes on.
UPDATE conversations SET chat = ?1, contact_id = ?2
WHERE channel_key IN (SELECT key FROM channels WHERE institution_id = ?4 AND environment = ?5)
  AND chat = ?3 AND closed_at IS NULL AND address = ?3 AND contact_id IS NULL AND wrote_at IS NULL
  AND NOT EXISTS (SELECT 1 FROM incoming m WHERE m.conversation_id = conversations.id AND m.direction = 'INBOUND')
  AND NOT EXISTS (SELECT 1 FROM conversations o
                  WHERE o.channel_key = conversations.channel_key AND o.chat = ?1 AND o.closed_at IS NULL)
