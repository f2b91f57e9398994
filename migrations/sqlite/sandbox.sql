-- The simulated network's own file: what stands here happened outside the store's transactions, as on a real network.

-- Every arrival, repeated ones too.
create table arrivals (
    n          integer not null primary key,
    network_id text    not null,
    arrived_at integer not null
) strict;
create index arrivals_of on arrivals (network_id);

-- What the phone shows: each network id once, in the order of its first arrival.
create table phone (
    n              integer not null primary key,
    network_id     text    not null unique,
    id             text    not null,
    institution_id blob    not null,
    channel_key    integer not null,
    channel_id     text    not null,
    recipient      text    not null,
    contact        text    not null,
    vcard          text    not null,
    received_at    integer not null,
    -- 0: no receipt taken by the gateway yet, 1: DELIVERED taken, 2: READ taken, 3: none will be sent.
    receipts       integer not null
) strict;
create index phone_of on phone (institution_id);
create index phone_pending on phone (n) where receipts < 2;
