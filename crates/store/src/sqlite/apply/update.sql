UPDATE messages
SET status = ?4, {reached}, claimed_until = ?5, connection = coalesce(?6, connection),
    account = coalesce(account, ?7), remote_id = coalesce(?8, remote_id), rendition = coalesce(?9, rendition),
    error_code = ?10, error_message = ?11, resend_at = iif(resent, NULL, ?12), run_at = coalesce(?13, run_at),
    attempts = attempts + ?14, failures = failures + ?15, recipient_holds = recipient_holds + ?16,
    unanswered = unanswered OR ?17, resent = resent OR ?18,
    -- A message that is queued again is no head until a head is elected.
    head = iif(?19, min(head, 0), head)
WHERE seq = ?1 AND channel_key = ?2 AND status = ?3
