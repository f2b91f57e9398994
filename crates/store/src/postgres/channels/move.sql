UPDATE channels
SET state = $3, state_reason = $4, connected_at = coalesce(connected_at, $5),
    -- Nodes of the previous version read this column.
    up_since = coalesce($5, up_since),
    connections = connections + ($5::bigint IS NOT NULL)::integer,
    restricted_until = CASE WHEN $6 THEN restricted_until END, {RESET_CURSOR}
WHERE key = $1 AND state = $2 AND deleted_at IS NULL
