WITH changed AS ({change}),
     recorded AS (
         INSERT INTO events (channel_key, message_seq, kind, at, data, account, remote_id, conversation_id)
         SELECT e.channel_key, e.seq, e.kind, e.at, e.data, event_account, event_remote_id, event_conversation_id
         FROM unnest({values}) WITH ORDINALITY AS e(channel_key, seq, kind, at, data, n)
         JOIN changed ON changed.seq = e.seq
         ORDER BY n
     )
SELECT * FROM changed
