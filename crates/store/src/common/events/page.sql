WHERE e.seq > ?1 AND e.seq <= ?2
  AND (?3 IS NULL OR coalesce(c.institution_id, e.institution_id) = ?3)
  AND (?4 IS NULL OR coalesce(c.environment, e.environment) = ?4)
  AND (?5 IS NULL OR e.channel_key = ?5)
  -- One whose message has gone just now goes with it.
  AND (e.message_seq IS NULL OR m.seq IS NOT NULL)
ORDER BY e.seq
LIMIT ?6
