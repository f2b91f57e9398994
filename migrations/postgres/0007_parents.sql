-- As SQLite's migration of this number. Nodes of the version before make keys without a parent.
alter table api_keys add column parent bytea;
