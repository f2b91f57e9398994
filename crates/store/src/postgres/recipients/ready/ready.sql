SELECT c.key AS channel_key, m.*,
       -- In a join the planner would read the whole table, by a row count that is some minutes old.
       (SELECT p.used_until FROM recipient_pace p
        WHERE p.channel_key = c.key AND p.recipient = m.recipient) AS used_until
FROM unnest($1, $2, $3) AS c(key, now, most)
CROSS JOIN LATERAL ({waited} UNION ALL {others}) m
ORDER BY c.key, m.run_at = 0, m.run_at, m.seq
