-- The hidden id (LID) of an account, where the network told it.
alter table accounts add column lid text;

-- `chats.account` is a person's name: digits, or a hidden id with `@lid` behind it. Both forms of a Brazilian mobile's number,
-- with its ninth digit and without, are names of one person from here on, and each has a row.
insert or ignore into chats (channel_key, account)
    select channel_key, substr(account, 1, 4) || substr(account, 6) from chats
    where length(account) = 13 and account glob '55[0-9][0-9]9[6-9]*'
    union all
    select channel_key, substr(account, 1, 4) || '9' || substr(account, 5) from chats
    where length(account) = 12 and account glob '55[0-9][0-9][6-9]*';
