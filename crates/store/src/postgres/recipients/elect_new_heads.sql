WITH new AS (
    SELECT n.channel_key, n.seq, n.recipient,
           row_number() OVER (PARTITION BY n.channel_key, n.recipient ORDER BY n.seq) = 1 AS is_first
    FROM unnest($1) AS c(key)
    CROSS JOIN LATERAL (
        SELECT channel_key, seq, recipient FROM messages
        WHERE channel_key = c.key AND head = 2 AND {OPEN}
        ORDER BY seq LIMIT {each}) n
), places AS (
    SELECT new.seq, CASE WHEN is_first AND first.seq IS NULL THEN 1 ELSE 0 END AS head,
           -- The message was accepted before the head of its queue, and its commit came later.
           coalesce(first.seq > new.seq, false) AS comes_before
    FROM new LEFT JOIN LATERAL (
        SELECT seq FROM messages m
        WHERE m.channel_key = new.channel_key AND m.recipient = new.recipient AND m.head = 1 AND m.{OPEN}
        ORDER BY seq LIMIT 1) first ON true
)
UPDATE messages m SET head = places.head FROM places WHERE m.seq = places.seq
RETURNING m.channel_key, m.recipient, places.comes_before
