INSERT INTO events (institution_id, environment, channel_key, kind, at, data, subject, conversation_id, chat_kind, complete)
SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 1 = 1
WHERE EXISTS (SELECT 1 FROM event_consumers WHERE institution_id = ?1 AND environment = ?2)
