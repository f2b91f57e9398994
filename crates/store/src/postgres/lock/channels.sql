SELECT key, type, state, connected_at IS NOT NULL, deleted_at IS NOT NULL, next_send_at,
       restricted_until, front_before, front_until, front_latest, front_per_day, lease_epoch,
       cancel_before, connections, session, records_messages,
       -- These settings apply to this transaction only.
       {plans} set_config('enable_bitmapscan', 'off', true), set_config('enable_seqscan', 'off', true),
       set_config('jit', 'off', true)
FROM channels WHERE key = any($1)
-- One order for all transactions, so that two transactions never wait for each other.
ORDER BY key
-- Other transactions may insert rows that refer to the channel.
FOR NO KEY UPDATE {others}
