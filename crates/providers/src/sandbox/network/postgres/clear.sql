WITH first AS (
    SELECT n FROM sandbox_phone
    -- In the order of its index, which the primary key does not have.
    WHERE (institution_id, n) > ($1, 0) AND (institution_id, n) <= ($1, $2) ORDER BY institution_id, n LIMIT $3
), shown AS (
    DELETE FROM sandbox_phone WHERE n IN (SELECT n FROM first) RETURNING network_id
), arrived AS (
    DELETE FROM sandbox_arrivals WHERE network_id IN (SELECT network_id FROM shown)
), first_incoming AS (
    SELECT n FROM sandbox_incoming
    WHERE (institution_id, n) > ($1, 0) AND (institution_id, n) <= ($1, $2) ORDER BY institution_id, n LIMIT $3
), incoming AS (
    DELETE FROM sandbox_incoming WHERE n IN (SELECT n FROM first_incoming) RETURNING network_id
)
SELECT network_id FROM (SELECT network_id FROM shown UNION ALL SELECT network_id FROM incoming) AS gone LIMIT 1
