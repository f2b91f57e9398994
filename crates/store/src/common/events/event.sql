SELECT e.seq, e.channel_key, e.kind, e.at, e.data, e.node, e.complete, e.subject, e.conversation_id, e.chat_kind,
       e.account, coalesce(c.institution_id, e.institution_id) AS institution_id,
       coalesce(c.environment, e.environment) AS environment, c.id AS channel_id, c.type AS channel_type,
       m.id AS message_id, coalesce(e.remote_id, m.network_id) AS network_id, m.reference, m.kind AS message_kind,
       m.recipient, CASE WHEN e.kind = 'message.failed' THEN m.error_message END AS error_message
FROM events e
LEFT JOIN channels c ON c.key = e.channel_key
LEFT JOIN messages m ON m.seq = e.message_seq
