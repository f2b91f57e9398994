WITH queues AS (
    SELECT first.seq AS first, next.seq AS next
    FROM unnest($1, $2) AS asked(channel_key, recipient)
    CROSS JOIN LATERAL (
        SELECT seq FROM messages m
        WHERE m.channel_key = asked.channel_key AND m.recipient = asked.recipient AND m.head = 0 AND m.{OPEN}
        ORDER BY seq LIMIT 1) next
    LEFT JOIN LATERAL (
        SELECT seq, status FROM messages m
        WHERE m.channel_key = asked.channel_key AND m.recipient = asked.recipient AND m.head = 1 AND m.{OPEN}
        ORDER BY seq LIMIT 1) first ON true
    -- The queue has no head, or an older message was queued again.
    WHERE first.seq IS NULL OR (first.{QUEUED} AND next.seq < first.seq)
), heads AS (
    SELECT next AS seq, 1 AS head FROM queues
    UNION ALL
    SELECT first, 0 FROM queues WHERE first IS NOT NULL
)
UPDATE messages m SET head = heads.head FROM heads WHERE m.seq = heads.seq
