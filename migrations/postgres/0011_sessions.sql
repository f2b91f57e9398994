-- As SQLite's migration of this number. Nodes of the previous version read and write session 0 alone, which is every session
-- that they know of; they cannot open a later one.
alter table channels add column session bigint not null default 0;
alter table session_rows add column session bigint not null default 0;
