UPDATE channels SET lease_node = $1, lease_epoch = lease_epoch + 1
WHERE key IN (
    SELECT key FROM channels
    WHERE type = $2 AND {which} AND (lease_node IS NULL OR lease_node NOT IN (SELECT id FROM nodes))
    ORDER BY key LIMIT $3
    -- A claim under an expired lease must end first; the next round acquires the channel.
    FOR NO KEY UPDATE SKIP LOCKED)
  -- A node whose lease has expired acquires nothing.
  AND EXISTS (SELECT 1 FROM nodes WHERE id = $1 AND lease_until > clock_timestamp())
RETURNING key, lease_epoch
