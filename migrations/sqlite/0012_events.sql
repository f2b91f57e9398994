-- What happened: rows are only added, in the transaction that makes them true, and deleted when they are old.
create table events (
    seq integer primary key autoincrement,
    channel_key integer not null references channels (key),
    -- The message that the event is about; null where it is about the channel.
    message_seq integer,
    kind text not null,
    at integer not null,
    data text not null,
    -- The node that held the channel then; null where one process has the store to itself.
    node text
);
create index events_by_channel on events (channel_key, seq) where message_seq is null;
create index events_by_age on events (at);
