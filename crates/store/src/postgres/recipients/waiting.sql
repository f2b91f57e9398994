SELECT m.*
FROM unnest($1, $2) AS c(key, first)
CROSS JOIN LATERAL (SELECT channel_key, {OPEN_ROW} FROM messages
                    WHERE (channel_key, seq) >= (c.key, c.first) AND (channel_key, seq) < (c.key + 1, {LOWEST})
                      AND {OPEN} AND {QUEUED}
                    ORDER BY channel_key, seq LIMIT {page}) m
ORDER BY m.channel_key, m.seq
