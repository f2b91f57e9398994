-- Owner by owner, because no index has the age alone.
SELECT v.id
FROM institutions i
CROSS JOIN (VALUES ('live'), ('test')) AS e (environment)
CROSS JOIN LATERAL (
    SELECT o.id FROM conversations o
    WHERE o.institution_id = i.id AND o.environment = e.environment AND o.active_at < ?2
    ORDER BY o.active_at LIMIT ?1
) v
LIMIT ?1
