seq > ?1 AND seq <= ?2 AND {PAST}
  -- A message that is to be sent again is not finished, unless it has expired.
  AND (resend_at IS NULL OR expires_at <= ?4)
  AND {greatest}(queued_at, coalesce(sending_at, 0), coalesce(sent_at, 0), coalesce(delivered_at, 0),
                  coalesce(unknown_at, 0), coalesce(read_at, 0), coalesce(failed_at, 0), coalesce(expired_at, 0),
                  coalesce(cancelled_at, 0)) < ?3
