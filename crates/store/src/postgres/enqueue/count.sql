SELECT (SELECT count(*) FROM (SELECT 1 FROM messages m
                              WHERE m.channel_key = asked.key AND m.{OPEN}
                                -- Messages that a deletion cancelled are no backlog.
                                AND abs(m.seq) > c.cancel_before LIMIT asked.cap) open)
FROM unnest($1, $2) WITH ORDINALITY AS asked(key, cap, n) LEFT JOIN channels c ON c.key = asked.key
ORDER BY n
