SELECT d.event_seq, d.webhook_key, d.queue, d.attempt, d.replay, d.created_at, d.next_attempt_at, d.leased
FROM unnest(?1) AS webhook (key) CROSS JOIN LATERAL (
    SELECT event_seq, webhook_key, queue, attempt, replay, created_at, next_attempt_at, leased FROM deliveries
    WHERE webhook_key = webhook.key AND lane = ?4 AND head AND next_attempt_at <= ?2
    ORDER BY next_attempt_at, event_seq LIMIT ?3
) d
