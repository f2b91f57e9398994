-- Before when the session of a linked phone does not log in, in Unix milliseconds.
alter table links add column rests_until integer;
