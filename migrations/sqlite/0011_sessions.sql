-- Which of its channel's sessions a row belongs to: counted up when a session ends for good, and when a channel is made anew
-- under the id of a deleted one. It is part of what each row is sealed for. 0: what was there before this was counted.
alter table channels add column session integer not null default 0;
alter table session_rows add column session integer not null default 0;
