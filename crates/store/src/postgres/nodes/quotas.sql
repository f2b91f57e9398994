SELECT type,
       count(*) FILTER (WHERE deleted_at IS NULL),
       count(*) FILTER (WHERE lease_node = $1 AND deleted_at IS NULL),
       count(*) FILTER (WHERE lease_node = $1),
       (SELECT count(*) FROM nodes WHERE channels.type = ANY (string_to_array(types, ' ')))
FROM channels GROUP BY type
