SELECT m.channel_key, m.seq
FROM unnest($1) AS c(key)
CROSS JOIN LATERAL (SELECT channel_key, seq FROM messages
                    WHERE channel_key = c.key AND head IS NOT NULL AND {SENDING}
                    -- OFFSET 0 keeps the subquery apart: each channel is read by the index.
                    OFFSET 0) m
