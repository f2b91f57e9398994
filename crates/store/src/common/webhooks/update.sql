UPDATE webhooks
SET name = ?1, url = ?2, patterns = ?3, scopes = ?4, channels = ?5, chat_kinds = ?6, content = ?7, ordering = ?8,
    max_retries = ?9, retry_delay = ?10, active = ?11, secret = ?12, previous_secret = ?13, previous_until = ?14,
    header_names = ?15, headers = ?16, updated_at = ?17,
    after_seq = CASE WHEN ?19 THEN ?18 ELSE after_seq END,
    disabled_at = CASE WHEN ?19 THEN NULL ELSE disabled_at END,
    revision = revision + 1
WHERE key = ?20
