-- Whose a hidden id is, is asked for each person who writes by it.
create index accounts_by_lid on accounts (channel_key, lid) where lid is not null;
