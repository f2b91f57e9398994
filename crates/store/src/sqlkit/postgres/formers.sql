SELECT p.channel_key, p.chat, v.wrote_at, v.windowed, v.address, v.chat_name, k.account, k.phone
FROM (SELECT (value ->> 0)::bigint AS channel_key, value ->> 1 AS chat FROM json_array_elements(?1::json)) p
-- The limits keep the planner on the indexes.
CROSS JOIN LATERAL (
    SELECT o.* FROM conversations o
    WHERE o.channel_key = p.channel_key AND o.chat = p.chat AND o.closed_at IS NOT NULL
    ORDER BY o.active_at DESC, o.id DESC LIMIT 1) v
LEFT JOIN LATERAL (SELECT c.account, c.phone FROM contacts c WHERE c.id = v.contact_id LIMIT 1) k ON true
