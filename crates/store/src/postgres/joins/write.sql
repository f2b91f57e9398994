WITH written AS (
    INSERT INTO conversations (
        id, institution_id, environment, channel_key, chat_kind, chat, address, contact_id, status, last_id, last_type,
        last_direction, last_content, last_at, unread, windowed, created_at, updated_at, active_at, chat_name, wrote_at
    )
    SELECT c.id, $1, $2, c.channel_key, c.chat_kind, c.chat, c.address, c.contact_id, $3, c.last_id, c.last_type,
           $4, c.last_content, $5, 0, c.windowed, $5, $5, $5, c.chat_name, c.wrote_at
    FROM unnest($6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
         AS c (id, channel_key, chat_kind, chat, address, contact_id, last_id, last_type, last_content, windowed,
               chat_name, wrote_at)
    -- The chat has a conversation that goes on.
    ON CONFLICT (channel_key, chat) WHERE closed_at IS NULL DO UPDATE SET
        last_id = excluded.last_id, last_type = excluded.last_type, last_direction = excluded.last_direction,
        last_content = excluded.last_content, last_at = excluded.last_at, updated_at = excluded.updated_at,
        active_at = greatest(conversations.active_at, excluded.active_at)
    RETURNING id, channel_key, chat
), noted AS (
    UPDATE messages m SET conversation_id = w.id
    FROM unnest($18, $19, $20) AS s (seq, channel_key, chat)
    JOIN written w ON w.channel_key = s.channel_key AND w.chat = s.chat
    -- The list of numbers keeps the planner on the index of the numbers.
    WHERE m.seq = any($18) AND m.seq = s.seq AND m.channel_key = s.channel_key AND m.conversation_id IS NULL
)
SELECT id, channel_key, chat FROM written
