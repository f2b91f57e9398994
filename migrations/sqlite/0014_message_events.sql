-- Who reads events of messages: institutions, for each of their environments. Events of messages are recorded for them alone.
create table event_consumers (
    institution_id blob not null references institutions (id),
    environment    text not null,
    primary key (institution_id, environment)
) strict, without rowid;

-- The same for each channel, where what changes a message reads it with the rest of the channel's row.
alter table channels add column records_messages integer not null default 0;

-- Events of messages are kept for another time than those of channels. They go with their messages.
drop index events_by_age;
create index channel_events_by_age on events (at) where message_seq is null;
create index message_events_by_age on events (at) where message_seq is not null;
create index events_by_message on events (message_seq) where message_seq is not null;
