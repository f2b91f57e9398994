-- Times are Unix milliseconds (UTC). Forward only: never edit a migration that has been released.

create table institutions (
    id         blob    not null primary key,
    name       text    not null,
    created_at integer not null
) strict, without rowid;

create table api_keys (
    id             blob    not null primary key,
    institution_id blob    not null references institutions (id),
    environment    text    not null,
    name           text    not null,
    -- SHA-256 of the key: the key itself is never stored.
    hash           blob    not null unique,
    prefix         text    not null,
    scopes         text    not null,
    -- Calls a minute; null is unlimited.
    rate_limit     integer,
    expires_at     integer,
    created_at     integer not null,
    last_used_at   integer,
    revoked_at     integer
) strict;

create table channels (
    -- The store's own number; what callers know is `id`.
    key            integer not null primary key,
    institution_id blob    not null references institutions (id),
    environment    text    not null,
    id             text    not null,
    name           text    not null,
    type           text    not null,
    state          text    not null,
    state_reason   text,
    -- When the line was first up: a channel that connects anew accepts as before.
    connected_at   integer,
    -- Pacing and holds: nothing is claimed before this time. Here, so that it survives a restart.
    next_send_at   integer not null default 0,
    created_at     integer not null,
    -- A deleted channel keeps its history; made anew under its id, it takes that history up again.
    deleted_at     integer,
    unique (institution_id, environment, id)
) strict;

-- The outbox and the queue in one: there is no second copy of a message in a table of jobs.
create table messages (
    -- The order of the queue.
    seq          integer not null primary key,
    id           blob    not null unique,
    channel_key  integer not null references channels (key),
    -- The position in `MessageStatus::ALL`. 0 and 1 are open, 1 to 4 await receipts.
    status       integer not null,
    -- Fixed at acceptance and used on every attempt, so that the network recognises a re-send.
    network_id   text    not null,
    -- Digits of the number the caller gave, and the account the network resolved it to.
    recipient    text    not null,
    account      text,
    payload      text    not null,
    -- Rendered once: every attempt sends the same bytes.
    card         text    not null,
    card_account text    not null,
    -- Whether the network named the card's account (1), or the typed digits stand in (0).
    card_account_known integer not null,
    scenario     text,
    attempts     integer not null default 0,
    -- Attempts that failed by the message's own trouble; they count against its retries.
    failures     integer not null default 0,
    -- An attempt may have reached the network without our knowing: what ends the message now is no proof that its card
    -- did not arrive.
    unanswered   integer not null default 0,
    -- Not to be tried before this time.
    run_at       integer not null default 0,
    claimed_until integer,
    expires_at   integer not null,
    error_code    text,
    error_message text,
    queued_at    integer not null,
    sending_at   integer,
    sent_at      integer,
    delivered_at integer,
    unknown_at   integer,
    read_at      integer,
    failed_at    integer,
    expired_at   integer,
    cancelled_at integer
) strict;

-- The line of a channel. The row's seq is the last part of every index, so each gives the order for free.
create index messages_open on messages (channel_key) where status <= 1;
-- What a receipt looks for. Filled when a message is claimed, not when it is accepted.
create index messages_in_network on messages (network_id) where status between 1 and 4;
create index messages_by_channel on messages (channel_key);
create index messages_by_recipient on messages (channel_key, recipient);

create table idempotency_keys (
    -- Ascending with time, so that the purge needs no index of its own.
    n              integer not null primary key,
    institution_id blob    not null,
    environment    text    not null,
    route          text    not null,
    key            text    not null,
    fingerprint    blob    not null,
    message_id     blob    not null,
    created_at     integer not null,
    unique (institution_id, environment, route, key)
) strict;

-- One row, rewritten to find out whether the file takes writes again after a failure.
create table probe (n integer not null) strict;
insert into probe values (0);
