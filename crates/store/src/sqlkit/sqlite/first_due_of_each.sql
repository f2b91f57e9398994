SELECT s.seq, s.channel_key
FROM json_each(?1) AS channel JOIN schedule s ON s.seq IN (
    SELECT seq FROM schedule
    WHERE channel_key = channel.value AND due_at <= ?2
    ORDER BY due_at, seq DESC LIMIT ?3
)
