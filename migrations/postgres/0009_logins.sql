-- As SQLite's migration of this number.
alter table links add column banned_until bigint;
alter table links add column logged_in_at bigint;
