WITH shown AS (
    -- No receipt is left to send.
    DELETE FROM sandbox_phone WHERE n > $1 AND n <= $2 AND received_at < $3 AND receipts >= $4 RETURNING network_id
), arrived AS (
    DELETE FROM sandbox_arrivals WHERE network_id IN (SELECT network_id FROM shown)
), incoming AS (
    -- The gateway has them.
    DELETE FROM sandbox_incoming WHERE n > $1 AND n <= $2 AND received_at < $3 AND state = $5 RETURNING n
)
SELECT (SELECT count(*) FROM shown) + (SELECT count(*) FROM incoming)
