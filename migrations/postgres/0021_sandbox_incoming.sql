-- What people did on the simulated network, until the gateway has it and after that: as in the sandbox's own file. The numbers
-- of both tables are one order.
CREATE TABLE sandbox_incoming (
    n              bigint   NOT NULL DEFAULT nextval(pg_get_serial_sequence('sandbox_phone', 'n')) PRIMARY KEY,
    network_id     text     NOT NULL UNIQUE,
    id             text     NOT NULL,
    institution_id bytea    NOT NULL,
    channel_key    bigint   NOT NULL,
    channel_id     text     NOT NULL,
    -- The address of the person.
    person         text     NOT NULL,
    kind           text     NOT NULL,
    payload        text     NOT NULL,
    -- How often the network delivers it.
    repeat         integer  NOT NULL,
    received_at    bigint   NOT NULL,
    -- 0: the gateway has to get it, 1: held until the next one was delivered, 2: the gateway has it.
    state          smallint NOT NULL
);
CREATE INDEX sandbox_incoming_of ON sandbox_incoming (institution_id, n);
CREATE INDEX sandbox_incoming_open ON sandbox_incoming (channel_key, n) WHERE state < 2;

-- Channels that behave as if they had a service window.
CREATE TABLE sandbox_windowed (channel_key bigint NOT NULL PRIMARY KEY);
