INSERT INTO webhooks (name, url, patterns, scopes, channels, chat_kinds, content, ordering, max_retries, retry_delay, active,
                      secret, previous_secret, previous_until, header_names, headers, created_at, updated_at, after_seq, id,
                      institution_id, environment, version, revision, deleted)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?17, ?18, ?19, ?20, ?21, ?22, 1, 1 = 0)
RETURNING key
