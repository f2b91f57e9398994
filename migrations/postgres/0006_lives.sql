-- As SQLite's migration of this number. Nodes of the version before go on working: `up_since` is still written for them.

-- A channel that is made anew under the id of a deleted one starts empty: every message up to this number was queued
-- before the deletion, and is sent no more.
alter table channels add column cancel_before bigint not null default 0;

-- How often the line came up, and under which of these a message was last sent: what the network refused before the
-- line came up pauses it no more. A count, because a clock can be set back. Null: sent before this was counted.
alter table channels add column connections bigint not null default 0;
alter table messages add column connection bigint;
