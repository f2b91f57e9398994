WITH names AS (
    -- The join leaves out a message that was erased meanwhile.
    SELECT o.channel_key, o.seq, o.at, name.digits, name.n
    FROM unnest($1, $2, $3, $4) AS o(channel_key, seq, account, at)
    CROSS JOIN LATERAL (SELECT recipient FROM messages WHERE seq = o.seq LIMIT 1) m
    CROSS JOIN LATERAL unnest(array_remove(array[o.account, m.recipient], NULL))
        WITH ORDINALITY AS name(digits, n)
), known AS (
    SELECT seq FROM names WHERE {is_known}
)
INSERT INTO chats (channel_key, account, opened_at)
-- A chat is counted once, and not at all if either name is known.
SELECT channel_key, digits,
       CASE WHEN n = 1 AND NOT EXISTS (SELECT 1 FROM known WHERE known.seq = names.seq) THEN at END
FROM names
ON CONFLICT DO NOTHING
RETURNING channel_key, account
