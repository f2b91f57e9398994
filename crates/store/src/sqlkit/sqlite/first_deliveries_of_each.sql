SELECT d.event_seq, d.webhook_key, d.queue, d.attempt, d.replay, d.created_at, d.next_attempt_at, d.leased
FROM json_each(?1) AS webhook JOIN deliveries d ON d.webhook_key = webhook.value AND d.event_seq IN (
    SELECT event_seq FROM deliveries INDEXED BY deliveries_due
    WHERE webhook_key = webhook.value AND lane = ?4 AND head AND next_attempt_at <= ?2
    ORDER BY next_attempt_at, event_seq LIMIT ?3
)
