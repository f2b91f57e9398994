WITH arriving AS (
    SELECT a.* FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
        AS a (network_id, id, institution_id, channel_key, channel_id, recipient, kind, contact, rendition, at, receipts)
), arrived AS (
    INSERT INTO sandbox_arrivals (network_id, arrived_at) SELECT network_id, at FROM arriving
)
INSERT INTO sandbox_phone (network_id, id, institution_id, channel_key, channel_id, recipient, kind, contact, rendition, vcard,
                           received_at, receipts)
SELECT network_id, id, institution_id, channel_key, channel_id, recipient, kind, contact, rendition, '', at, receipts
FROM arriving ORDER BY network_id
-- Shown once. A phone that gets a message again sends its receipts again.
-- A late earlier attempt, whose receipts are lost, removes no receipts.
ON CONFLICT (network_id) DO UPDATE
    SET receipts = least(excluded.receipts, sandbox_phone.receipts), reserved_until = 0
