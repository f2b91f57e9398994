SELECT v.channel_key, v.chat, v.wrote_at, v.windowed, v.address, v.chat_name, k.account, k.phone
FROM (SELECT value ->> 0 AS channel_key, value ->> 1 AS chat FROM json_each(?1)) p
CROSS JOIN conversations v ON v.id = (
    SELECT o.id FROM conversations o
    WHERE o.channel_key = p.channel_key AND o.chat = p.chat AND o.closed_at IS NOT NULL
    ORDER BY o.active_at DESC, o.id DESC LIMIT 1)
LEFT JOIN contacts k ON k.id = v.contact_id
