-- Before when the session of a linked phone does not log in, and when it last has, in Unix milliseconds.
alter table links add column banned_until integer;
alter table links add column logged_in_at integer;
