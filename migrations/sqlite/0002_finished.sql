-- Lists look for waiting messages in `messages_open`, and for all others here. Filled when a message leaves the queue,
-- not when it is accepted: a burst of accepts writes three b-trees instead of five.
create index messages_past on messages (channel_key) where status > 1;
create index messages_past_by_recipient on messages (channel_key, recipient) where status > 1;
drop index messages_by_channel;
drop index messages_by_recipient;
