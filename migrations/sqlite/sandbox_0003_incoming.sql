-- What people did on the simulated network, until the gateway has it and after that. The numbers of both tables are one order.
CREATE TABLE incoming (
    n              INTEGER NOT NULL PRIMARY KEY,
    network_id     TEXT    NOT NULL UNIQUE,
    id             TEXT    NOT NULL,
    institution_id BLOB    NOT NULL,
    channel_key    INTEGER NOT NULL,
    channel_id     TEXT    NOT NULL,
    -- The address of the person.
    person         TEXT    NOT NULL,
    kind           TEXT    NOT NULL,
    payload        TEXT    NOT NULL,
    -- How often the network delivers it.
    repeat         INTEGER NOT NULL,
    received_at    INTEGER NOT NULL,
    -- 0: the gateway has to get it, 1: held until the next one was delivered, 2: the gateway has it.
    state          INTEGER NOT NULL
) STRICT;
CREATE INDEX incoming_of ON incoming (institution_id);
CREATE INDEX incoming_open ON incoming (channel_key, n) WHERE state < 2;

-- Channels that behave as if they had a service window.
CREATE TABLE windowed (channel_key INTEGER NOT NULL PRIMARY KEY) STRICT;
