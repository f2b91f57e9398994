WITH new AS (
    SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) WITH ORDINALITY
        AS new(id, channel_key, network_id, recipient, payload, kind, rendition, reference, scenario, expires_at,
               queued_at, head, send_at, n)
)
