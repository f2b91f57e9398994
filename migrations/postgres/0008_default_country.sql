-- As SQLite's migration of this number. Nodes of the previous version read numbers by the setting of the server alone.
alter table institutions add column default_country text;
-- `directory.version` when the default country was last set.
alter table institutions add column version bigint not null default 0;
create index institutions_by_version on institutions (version);
