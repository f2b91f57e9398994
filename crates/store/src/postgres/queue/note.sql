UPDATE messages m
SET account = coalesce(m.account, s.account), remote_id = coalesce(s.remote_id, m.remote_id),
    rendition = coalesce(s.rendition, m.rendition)
FROM unnest($1, $2, $3, $4, $5) AS s(seq, channel_key, account, remote_id, rendition)
-- The numbers are given twice, so that no plan reads all messages.
WHERE m.seq = any($1) AND m.seq = s.seq AND m.channel_key = s.channel_key
