-- Lines by recipient, for networks that take several messages of a channel side by side. Null: the channel is one line.
-- 1: first of its recipient's open messages, 0: behind it. So a claim looks at first ones only, however long the
-- backlog is.
alter table messages add column head integer;
create index messages_of_recipient on messages (channel_key, recipient, head) where head is not null and status <= 1;
create index messages_on_their_way on messages (channel_key) where head is not null and status = 1;
create index messages_ready on messages (channel_key, run_at) where head = 1 and status = 0;

-- Until when a recipient's share of a channel is used up, where the network limits messages to one recipient.
create table recipient_pace (
    channel_key integer not null references channels (key),
    recipient   text    not null,
    used_until  integer not null,
    primary key (channel_key, recipient)
) strict, without rowid;

-- How often the network took nothing more for the recipient when it was tried: the next wait is by that.
alter table messages add column recipient_holds integer not null default 0;

-- The network's own id of a message, where it takes none of ours.
alter table messages add column remote_id text;
create index messages_by_remote_id on messages (channel_key, remote_id)
    where remote_id is not null and status between 1 and 4;

-- Receipts by a network's own id that came before the answer which tells whose it is.
create table early_receipts (
    n             integer not null primary key,
    channel_key   integer not null references channels (key),
    remote_id     text    not null,
    status        integer not null,
    at            integer not null,
    error_code    text,
    error_message text,
    -- Why the channel is paused with it.
    pauses        text,
    received_at   integer not null
) strict;
create index early_receipts_of on early_receipts (channel_key, remote_id);

-- When an UNKNOWN message is queued again, by the channel's policy.
alter table messages add column resend_at integer;
-- Whether it was: then the network may have it twice, and that one sending failed says nothing of the other.
alter table messages add column resent integer not null default 0;
create index messages_to_resend on messages (channel_key, resend_at) where resend_at is not null;

-- JSON; what is not there has its default.
alter table channels add column settings text not null default '{}';

-- When its line last came up: what a network refused before that pauses it no more.
alter table channels add column up_since integer not null default 0;
