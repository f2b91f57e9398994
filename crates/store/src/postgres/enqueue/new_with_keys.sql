WITH given AS (
    SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)
        WITH ORDINALITY
        AS new(id, channel_key, network_id, recipient, payload, kind, rendition, reference, scenario, expires_at,
               queued_at, head, send_at, institution_id, environment, route, key, fingerprint, forget_before, n)
), used AS (
    INSERT INTO idempotency_keys AS earlier
        (institution_id, environment, route, key, fingerprint, message_id, created_at)
    SELECT institution_id, environment, route, key, fingerprint, id, queued_at FROM given
    -- All nodes use one order, so that two nodes never wait for each other.
    ORDER BY institution_id, environment, route, key
    ON CONFLICT (institution_id, environment, route, key) DO UPDATE
        SET n = DEFAULT, fingerprint = excluded.fingerprint, message_id = excluded.message_id,
            created_at = excluded.created_at
        -- An expired key that is not purged yet is replaced.
        WHERE earlier.created_at < (SELECT forget_before FROM given WHERE id = excluded.message_id)
    RETURNING message_id
), new AS (
    SELECT * FROM given WHERE id IN (SELECT message_id FROM used)
)
