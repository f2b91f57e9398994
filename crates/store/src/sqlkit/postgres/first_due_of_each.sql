SELECT s.seq, s.channel_key
FROM unnest(?1) AS channel (key) CROSS JOIN LATERAL (
    SELECT seq, channel_key FROM schedule
    WHERE channel_key = channel.key AND due_at <= ?2
    ORDER BY due_at, seq DESC LIMIT ?3
) s
