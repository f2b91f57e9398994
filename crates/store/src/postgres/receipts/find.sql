SELECT r.n, {COLUMNS}, c.type,
       EXISTS (SELECT 1 FROM chats WHERE channel_key = r.channel_key AND account = m.recipient)
       AND (r.account IS NULL
            OR EXISTS (SELECT 1 FROM chats WHERE channel_key = r.channel_key AND account = r.account)),
       m.recipient, m.account, a.account, a.lid, c.records_messages
FROM unnest($1, $2, $3, $4, $5) AS r(n, channel_key, {names}, account, arrived)
JOIN channels c ON c.key = r.channel_key
CROSS JOIN LATERAL ({message} LIMIT 1) m
LEFT JOIN accounts a ON a.channel_key = r.channel_key AND a.phone = m.recipient
