-- Marks the newest `?5` unread messages of a conversation behind the number `?2`, up to `?3`.
UPDATE incoming SET read_at = ?4, updated_at = ?4
WHERE seq IN (
    SELECT seq FROM incoming
    WHERE conversation_id = ?1 AND seq > ?2 AND seq <= ?3 AND read_at IS NULL AND direction = 'INBOUND'
    ORDER BY seq DESC LIMIT ?5
)
