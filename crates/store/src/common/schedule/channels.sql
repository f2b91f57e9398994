-- The channels that have due messages. The index is read channel by channel, so a channel costs the same however many
-- messages it has.
WITH RECURSIVE scheduled (channel_key) AS (
    SELECT min(channel_key) FROM schedule
    UNION ALL
    SELECT (SELECT min(s.channel_key) FROM schedule s WHERE s.channel_key > scheduled.channel_key)
    FROM scheduled WHERE scheduled.channel_key IS NOT NULL
)
SELECT channel_key FROM scheduled
WHERE (SELECT min(s.due_at) FROM schedule s WHERE s.channel_key = scheduled.channel_key) <= ?1
LIMIT ?2
