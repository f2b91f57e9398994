-- The key that made this one: it counts as a call of that key, too, and ends with it. Null: the operator made it.
alter table api_keys add column parent blob;
