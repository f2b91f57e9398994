SELECT 1 AS known FROM chats WHERE channel_key = ?1 AND account = ?2
UNION ALL
SELECT 1 FROM accounts a
JOIN chats c ON c.channel_key = a.channel_key AND c.account IN (a.account, a.lid || '@lid')
WHERE a.channel_key = ?1 AND a.phone = ?2
LIMIT 1
