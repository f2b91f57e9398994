-- What a linked device keeps: keys and sessions of its encryption, sealed with a key that is not in this file.
create table session_rows (
    channel_key integer not null references channels (key),
    kind        integer not null,
    key         blob    not null,
    sealed      blob    not null,
    -- Unix seconds of the driver's own clock, by which it lets old rows go; 0 is never old.
    stamp       integer not null,
    primary key (channel_key, kind, key)
) strict, without rowid;

-- What the network said of numbers that it was asked for.
create table accounts (
    channel_key integer not null references channels (key),
    phone       text    not null,
    -- Null: not on WhatsApp.
    account     text,
    checked_at  integer not null,
    primary key (channel_key, phone)
) strict, without rowid;
create index accounts_by_age on accounts (checked_at);

-- Who is no new recipient: whom we have written to, and who has written to us.
create table chats (
    channel_key integer not null references channels (key),
    -- Digits: of the account, or as they were typed.
    account     text    not null,
    -- When we opened it; null where they wrote first, and in the second row of one chat. What is counted in a day.
    opened_at   integer,
    primary key (channel_key, account)
) strict, without rowid;
create index chats_opened on chats (channel_key, opened_at) where opened_at is not null;

-- Until when the network takes no new recipients from the channel.
alter table channels add column restricted_until integer;

-- What a receipt looks for as well: queued again, and the network may have it already.
create index messages_unanswered on messages (network_id) where status = 0 and unanswered = 1;
