SELECT c.key, m.*
FROM channels c
CROSS JOIN LATERAL (SELECT {OPEN_ROW} FROM messages
                    WHERE (channel_key, seq) >= (c.key, 0) AND (channel_key, seq) < (c.key + 1, {LOWEST}) AND {OPEN}
                    ORDER BY channel_key, seq LIMIT {HEADS}) m
WHERE c.key = any($1) AND c.type = any($2)
ORDER BY c.key, m.seq
