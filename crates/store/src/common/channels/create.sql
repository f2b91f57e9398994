WITH {with}
INSERT INTO channels (institution_id, environment, id, name, type, state, connected_at, created_at,
                      settings, records_messages, records_queued{column})
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, coalesce(?10, '{{}}'),
        EXISTS (SELECT 1 FROM event_consumers WHERE institution_id = ?1 AND environment = ?2),
        EXISTS (SELECT 1 FROM event_consumers WHERE institution_id = ?1 AND environment = ?2 AND queued){value})
ON CONFLICT (institution_id, environment, id) DO UPDATE
    SET name = excluded.name, state = excluded.state, state_reason = NULL,
        connected_at = excluded.connected_at, next_send_at = 0, created_at = excluded.created_at,
        settings = excluded.settings, restricted_until = NULL, deleted_at = NULL, cancel_before = {former},
        connections = channels.connections + 1, session = channels.session + 1{reset_cursor}{set}
    -- A channel of another type would find the former channel's messages in its history.
    WHERE channels.deleted_at IS NOT NULL AND channels.type = excluded.type
RETURNING {COLUMNS}
