SELECT e.seq, e.channel_key, m.id, e.kind, e.at, e.data, e.node
FROM events e
CROSS JOIN channels c ON c.key = e.channel_key
LEFT JOIN messages m ON m.seq = e.message_seq
WHERE e.seq > ?1 AND e.seq <= ?2 AND c.institution_id = ?3 AND c.environment = ?4
  AND (?5 IS NULL OR e.channel_key = ?5)
  -- The purge deletes a message first, and its events after it.
  AND (e.message_seq IS NULL OR m.seq IS NOT NULL)
ORDER BY e.seq LIMIT ?6
