SELECT asked.n, used.fingerprint, used.message_id
FROM unnest($1, $2, $3, $4, $5) WITH ORDINALITY
     AS asked(institution_id, environment, route, key, forget_before, n),
-- The limit makes the planner look up each key in the index, however many keys there are.
LATERAL (SELECT fingerprint, message_id FROM idempotency_keys k
         WHERE k.institution_id = asked.institution_id AND k.environment = asked.environment
           AND k.route = asked.route AND k.key = asked.key AND k.created_at >= asked.forget_before
         LIMIT 1) used
