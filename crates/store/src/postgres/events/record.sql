WITH changed AS ({change}),
     recorded AS (
         INSERT INTO events (channel_key, message_seq, kind, at, data)
         SELECT channel_key, seq, kind, at, data
         FROM unnest({values}) WITH ORDINALITY AS e(channel_key, seq, kind, at, data, n)
         WHERE seq IN (SELECT seq FROM changed)
         ORDER BY n
     )
SELECT * FROM changed
