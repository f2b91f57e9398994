SELECT q.webhook_key, q.due_first, q.due_retry, q.due_failing, q.failures, q.failing_since, q.last_delivered_at, q.gone,
       q.end_until, (w.active AND NOT w.deleted) AS active,
       (SELECT min(next_attempt_at) FROM deliveries d
        WHERE d.webhook_key = q.webhook_key AND d.lane = 0 AND d.head) AS first_at,
       (SELECT min(next_attempt_at) FROM deliveries d
        WHERE d.webhook_key = q.webhook_key AND d.lane = 1 AND d.head) AS retry_at,
       (SELECT count(*) FROM deliveries d
        WHERE d.webhook_key = q.webhook_key AND d.leased AND d.next_attempt_at > ?2) AS in_flight,
       (SELECT count(*) FROM deliveries d
        WHERE d.webhook_key = q.webhook_key AND d.leased AND d.next_attempt_at > ?2 AND d.attempt = 1) AS firsts,
       (SELECT min(next_attempt_at) FROM deliveries d
        WHERE d.webhook_key = q.webhook_key AND d.leased AND d.next_attempt_at > ?2) AS lease_ends
FROM webhook_queues q
JOIN webhooks w ON w.key = q.webhook_key
WHERE {webhooks}
