INSERT INTO messages (id, channel_key, status, network_id, recipient, payload, {content}, scenario, expires_at,
                      queued_at, head{scheduled})
SELECT id, channel_key, {queued}, network_id, recipient, payload, kind, rendition, {reference}, scenario, expires_at,
       queued_at, head{numbers}
FROM new
-- The queue has the order of the answers.
ORDER BY n
