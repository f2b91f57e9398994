-- The commit does not wait for the disk: a crash of the database forgets only the draws of the last moments.
WITH fast AS (SELECT set_config('synchronous_commit', 'off', true)),
old AS (SELECT tokens, at FROM rate_buckets WHERE key_id = $1 AND kind = $2 FOR UPDATE),
-- The bucket refills with the limit within a minute, and holds at most the limit.
filled AS (SELECT least($3, coalesce(
    (SELECT tokens + greatest(0, extract(epoch FROM clock_timestamp() - at)::float8) * $3 / 60 FROM old),
    $3)) AS tokens),
drawn AS (SELECT tokens, least($4, floor(tokens)) AS drawn_tokens FROM filled),
kept AS (INSERT INTO rate_buckets (key_id, kind, tokens, at)
    SELECT $1, $2, tokens - drawn_tokens, clock_timestamp() FROM drawn
    ON CONFLICT (key_id, kind) DO UPDATE SET tokens = excluded.tokens, at = excluded.at)
SELECT drawn_tokens, tokens - drawn_tokens FROM drawn, fast
