-- Owner by owner, because no index has the age alone.
SELECT v.id
FROM institutions i
CROSS JOIN (SELECT 'live' AS environment UNION ALL SELECT 'test') e
CROSS JOIN conversations v INDEXED BY conversations_by_activity
WHERE v.institution_id = i.id AND v.environment = e.environment AND v.active_at < ?2
LIMIT ?1
