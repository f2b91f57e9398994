SELECT w.key, w.id, w.institution_id, w.environment, w.name, w.url, w.patterns, w.scopes, w.channels, w.chat_kinds,
       w.previous_secret, w.previous_until, w.content, w.ordering, w.max_retries, w.retry_delay, w.active, w.secret,
       w.header_names, w.headers, w.version, w.revision, q.failing_since, w.disabled_at, q.last_delivered_at,
       w.created_at, w.updated_at, w.after_seq
FROM webhooks w
JOIN webhook_queues q ON q.webhook_key = w.key
WHERE NOT w.deleted
