SELECT m.*
FROM unnest($1, $2) AS c(key, first)
CROSS JOIN LATERAL (SELECT channel_key, {OPEN_ROW}, queued_at, {is_new} AS is_new, {held_until} AS held_until
                    FROM messages
                    WHERE (channel_key, seq) >= (c.key, c.first) AND (channel_key, seq) < (c.key + 1, {LOWEST})
                      AND {OPEN}
                    ORDER BY channel_key, seq LIMIT {most}) m
ORDER BY m.channel_key, m.seq
