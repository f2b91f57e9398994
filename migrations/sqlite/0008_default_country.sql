-- The country of numbers that an institution writes without their country code: its two letters (ISO 3166-1), or `none`.
-- Null: the setting of the server.
alter table institutions add column default_country text;
