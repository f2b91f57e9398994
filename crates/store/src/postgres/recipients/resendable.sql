SELECT m.*
FROM unnest($1) AS c(key)
CROSS JOIN LATERAL (SELECT channel_key, seq, resend_at, expires_at FROM messages
                    WHERE channel_key = c.key AND resend_at IS NOT NULL
                    ORDER BY resend_at LIMIT {each}) m
ORDER BY m.channel_key, m.resend_at
