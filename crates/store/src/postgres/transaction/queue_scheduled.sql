WITH due AS (
    SELECT seq, by_recipient, nextval('messages_seq_seq') AS next
    FROM unnest($1, $2) WITH ORDINALITY AS d (seq, by_recipient, n) ORDER BY n
), queued AS (
    UPDATE messages m
    SET seq = due.next, head = CASE WHEN due.by_recipient THEN 2 END, queued_at = $3
    FROM due WHERE m.seq = any($1) AND m.seq = due.seq
)
UPDATE events e SET message_seq = due.next
FROM due WHERE e.message_seq = any($1) AND e.message_seq = due.seq
