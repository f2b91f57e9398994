-- As SQLite's migration of this number. Nodes of the previous version need not know of it: they name neither the column that
-- goes nor those that come, and record no events of messages.
create table event_consumers (
    institution_id bytea not null references institutions (id),
    environment    text  not null,
    primary key (institution_id, environment)
);

drop index events_by_age;
create index channel_events_by_age on events (at) where message_seq is null;
create index message_events_by_age on events (at) where message_seq is not null;
create index events_by_message on events (message_seq) where message_seq is not null;

-- As for messages: a row that refers to a channel locks the channel's row, which every claim locks as well, and rows with
-- several lockers cost more than all the rest. No channel is ever deleted from its table.
alter table events drop constraint events_channel_key_fkey;

-- Behind the indexes, so that no call waits for them.
alter table channels add column records_messages boolean not null default false;

-- The order of events is their number alone: a transaction's id means nothing in another database.
alter table events drop column xact;

-- Numbers are given before the commit. Who reads events in order waits for every transaction that may have taken a number
-- before, and knows these by their ids. So a transaction has its id before it takes a number, whatever it does first.
create sequence event_numbers owned by events.seq;
select setval('event_numbers', last_value, is_called) from events_seq_seq;
alter table events alter column seq drop identity;
alter table events alter column seq
    set default case when pg_current_xact_id() is not null then nextval('event_numbers') end;
