SELECT recipient FROM
    (SELECT seq, recipient FROM messages{open_index}
     WHERE channel_key = ?1 AND seq > 0 AND {OPEN} AND {QUEUED} ORDER BY seq LIMIT 1000) m
-- A hidden id is no number that could be looked up.
WHERE m.recipient NOT LIKE '%@%'
  AND NOT EXISTS (SELECT 1 FROM accounts WHERE channel_key = ?1 AND phone = m.recipient)
  AND NOT EXISTS (SELECT 1 FROM chats WHERE channel_key = ?1 AND account = m.recipient)
  AND NOT EXISTS (SELECT 1 FROM accounts{lid_index} WHERE channel_key = ?1 AND lid = ?2)
  AND EXISTS (SELECT 1 FROM channels WHERE key = ?1 AND deleted_at IS NULL)
GROUP BY recipient ORDER BY min(seq) LIMIT ?3
