INSERT INTO conversations (
    id, institution_id, environment, channel_key, chat_kind, chat, address, contact_id, status, last_id, last_type,
    last_direction, last_content, last_at, unread, windowed, created_at, updated_at, active_at, chat_name, wrote_at
)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, 0, ?15, ?14, ?14, ?14, ?16, ?17)
-- The chat has a conversation that goes on.
ON CONFLICT (channel_key, chat) WHERE closed_at IS NULL DO UPDATE SET
    last_id = excluded.last_id, last_type = excluded.last_type, last_direction = excluded.last_direction,
    last_content = excluded.last_content, last_at = excluded.last_at, updated_at = excluded.updated_at,
    active_at = max(conversations.active_at, excluded.active_at)
RETURNING id
