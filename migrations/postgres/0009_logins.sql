-- As SQLite's migration of this number.
alter table links add column rests_until bigint;
