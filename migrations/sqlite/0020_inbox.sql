-- What networks deliver: messages of other people, their conversations, and who these people are. Rows that every message
-- touches have no foreign keys.

-- One person of an institution and environment.
CREATE TABLE contacts (
    id               BLOB NOT NULL PRIMARY KEY,
    institution_id   BLOB NOT NULL,
    environment      TEXT NOT NULL,
    name             TEXT NOT NULL,
    -- The name without case and accents, by which lists are sorted.
    sort_name        TEXT NOT NULL,
    -- Whether a caller gave the name: then none that the network reports replaces it.
    is_named         INTEGER NOT NULL,
    -- Digits, as they were typed or reported.
    phone            TEXT,
    -- Digits, as the network reported them last.
    account          TEXT,
    email            TEXT,
    -- JSON lists: as they were written, and as they are compared.
    tags             TEXT NOT NULL,
    tag_keys         TEXT NOT NULL,
    metadata         TEXT NOT NULL,
    opt_out_at       INTEGER,
    opt_out_source   TEXT,
    source           TEXT NOT NULL,
    last_inbound_at  INTEGER,
    last_outbound_at INTEGER,
    created_at       INTEGER NOT NULL,
    updated_at       INTEGER NOT NULL
) STRICT;
CREATE INDEX contacts_by_name ON contacts (institution_id, environment, sort_name, id);

-- By which names networks know a contact. A number is valid for the whole owner (the scope is empty), a hidden id on one
-- channel, a user id in one business. Both forms of a Brazilian number are one value.
CREATE TABLE identities (
    institution_id BLOB NOT NULL,
    environment    TEXT NOT NULL,
    kind           TEXT NOT NULL,
    scope          TEXT NOT NULL,
    value          TEXT NOT NULL,
    contact_id     BLOB NOT NULL,
    -- The channel of a hidden id, or of a user id without a business.
    channel_key    INTEGER,
    PRIMARY KEY (institution_id, environment, kind, scope, value)
) STRICT, WITHOUT ROWID;
CREATE INDEX identities_of_contact ON identities (contact_id);
-- Erasing a person begins with a name.
CREATE INDEX identities_by_value ON identities (value);

-- Parts of the names and numbers of contacts, by which they are searched: three letters, or the beginning of a word with `^`
-- before it.
CREATE TABLE contact_grams (
    institution_id BLOB NOT NULL,
    environment    TEXT NOT NULL,
    gram           TEXT NOT NULL,
    contact_id     BLOB NOT NULL,
    PRIMARY KEY (institution_id, environment, gram, contact_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX grams_of_contact ON contact_grams (contact_id);

CREATE TABLE conversations (
    id             BLOB NOT NULL PRIMARY KEY,
    institution_id BLOB NOT NULL,
    environment    TEXT NOT NULL,
    channel_key    INTEGER NOT NULL,
    chat_kind      TEXT NOT NULL,
    -- Which chat it is: the id of the contact, `group:` and the address, or the address of a person without a contact.
    chat           TEXT NOT NULL,
    -- By which address a message reaches the chat.
    address        TEXT NOT NULL,
    chat_name      TEXT,
    contact_id     BLOB,
    status         TEXT NOT NULL,
    assigned_to    TEXT,
    assigned_name  TEXT,
    department_id  TEXT,
    -- Of the last transfer.
    note           TEXT,
    close_reason   TEXT,
    -- The newest message, as lists show it.
    last_id        BLOB,
    last_type      TEXT,
    last_direction TEXT,
    last_content   TEXT,
    last_at        INTEGER,
    unread         INTEGER NOT NULL,
    windowed       INTEGER NOT NULL,
    -- When the person last wrote, by the network's clock.
    wrote_at       INTEGER,
    created_at     INTEGER NOT NULL,
    updated_at     INTEGER NOT NULL,
    closed_at      INTEGER,
    active_at      INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX conversations_active ON conversations (channel_key, chat) WHERE closed_at IS NULL;
CREATE INDEX conversations_of_chat ON conversations (channel_key, chat, active_at);
CREATE INDEX conversations_by_activity ON conversations (institution_id, environment, active_at, id);
CREATE INDEX conversations_by_channel ON conversations (channel_key, active_at, id);
CREATE INDEX conversations_by_contact ON conversations (contact_id, active_at, id) WHERE contact_id IS NOT NULL;
CREATE INDEX conversations_by_attendant ON conversations (institution_id, environment, assigned_to, active_at, id)
    WHERE assigned_to IS NOT NULL;
CREATE INDEX conversations_unread ON conversations (institution_id, environment, active_at, id) WHERE unread > 0;
CREATE INDEX conversations_by_address ON conversations (address);
CREATE INDEX conversations_by_age ON conversations (active_at);
CREATE INDEX conversations_going_on ON conversations (channel_key, active_at) WHERE closed_at IS NULL;

-- Messages that a network delivered, in the order of their arrival.
CREATE TABLE incoming (
    seq             INTEGER NOT NULL PRIMARY KEY,
    id              BLOB NOT NULL UNIQUE,
    channel_key     INTEGER NOT NULL,
    conversation_id BLOB NOT NULL,
    -- The author. Null for the channel itself and for nobody.
    contact_id      BLOB,
    direction       TEXT NOT NULL,
    network_id      TEXT NOT NULL,
    body            TEXT NOT NULL,
    media_id        BLOB,
    -- A JSON list; null where nobody has reacted.
    reactions       TEXT,
    -- The network's own bytes.
    raw             BLOB,
    edited_at       INTEGER,
    revoked_at      INTEGER,
    sent_at         INTEGER NOT NULL,
    received_at     INTEGER NOT NULL,
    read_at         INTEGER,
    updated_at      INTEGER NOT NULL
) STRICT;
CREATE INDEX incoming_by_network_id ON incoming (channel_key, network_id);
CREATE INDEX incoming_of_channel ON incoming (channel_key, seq);
CREATE INDEX incoming_of_conversation ON incoming (conversation_id, seq);
CREATE INDEX incoming_of_contact ON incoming (contact_id, seq) WHERE contact_id IS NOT NULL;
CREATE INDEX incoming_unread ON incoming (conversation_id, seq) WHERE read_at IS NULL AND direction = 'INBOUND';

-- Files of such messages. The bytes are elsewhere.
CREATE TABLE incoming_media (
    id          BLOB NOT NULL PRIMARY KEY,
    message_id  BLOB NOT NULL,
    channel_key INTEGER NOT NULL,
    state       TEXT NOT NULL,
    -- What the network says of the file, as JSON.
    about       TEXT NOT NULL,
    -- What the driver needs to download it.
    sealed      BLOB,
    read_at     INTEGER
) STRICT;
CREATE INDEX media_of_message ON incoming_media (message_id);
CREATE INDEX media_by_use ON incoming_media (read_at) WHERE state = 'STORED';

-- Changes of messages that arrived: so that a repetition is recognised, and so that a change can wait for its message.
CREATE TABLE incoming_changes (
    n           INTEGER NOT NULL PRIMARY KEY,
    channel_key INTEGER NOT NULL,
    network_id  TEXT NOT NULL,
    -- The network id of the message that it changes; empty for none.
    target      TEXT NOT NULL,
    contact_id  BLOB,
    -- The change, as JSON, until it is made.
    held        TEXT,
    at          INTEGER NOT NULL
) STRICT;
CREATE INDEX changes_by_network_id ON incoming_changes (channel_key, network_id);
CREATE INDEX changes_held ON incoming_changes (channel_key, target) WHERE held IS NOT NULL;
CREATE INDEX changes_of_contact ON incoming_changes (contact_id) WHERE contact_id IS NOT NULL;

-- The last vote of each person in a poll.
CREATE TABLE poll_votes (
    channel_key INTEGER NOT NULL,
    poll        TEXT NOT NULL,
    -- The id of the contact, or an address.
    voter       TEXT NOT NULL,
    options     TEXT NOT NULL,
    at          INTEGER NOT NULL,
    PRIMARY KEY (channel_key, poll, voter)
) STRICT, WITHOUT ROWID;
CREATE INDEX votes_by_age ON poll_votes (at);
