, stored AS ({insert} RETURNING id, channel_key, seq, queued_at, send_at){schedule}, recorded AS (
    INSERT INTO events (channel_key, message_seq, kind, at, data)
    SELECT channel_key, seq, '{kind}', queued_at, '{data}'
    FROM stored JOIN channels ON key = channel_key AND records_queued
    ORDER BY seq
)
SELECT id FROM stored
