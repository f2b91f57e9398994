SELECT c.key AS channel_key, e.seq, e.at, e.data, e.node
FROM channels c
JOIN events e ON e.seq = (
    -- The first event behind the last one of another kind: a state that lasts may have several events with other reasons.
    SELECT f.seq FROM events f
    WHERE f.channel_key = c.key AND f.message_seq IS NULL AND NOT f.complete AND f.seq > coalesce((
        SELECT o.seq FROM events o
        WHERE o.channel_key = c.key AND o.message_seq IS NULL AND NOT o.complete AND o.kind <> (
            SELECT n.kind FROM events n WHERE n.channel_key = c.key AND n.message_seq IS NULL AND NOT n.complete
            ORDER BY n.seq DESC LIMIT 1)
        ORDER BY o.seq DESC LIMIT 1), 0)
    ORDER BY f.seq LIMIT 1)
WHERE c.deleted_at IS NULL
