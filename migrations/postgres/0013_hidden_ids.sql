-- As SQLite's migration of this number. Nodes of the previous version need not know of it.
create index accounts_by_lid on accounts (channel_key, lid) where lid is not null;
