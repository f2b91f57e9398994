-- Webhooks, and the deliveries of events to them.
CREATE TABLE webhooks (
    key             INTEGER NOT NULL PRIMARY KEY,
    id              BLOB NOT NULL,
    institution_id  BLOB NOT NULL REFERENCES institutions (id),
    environment     TEXT NOT NULL,
    name            TEXT NOT NULL,
    url             TEXT NOT NULL,
    -- Lists, with spaces between their parts.
    patterns        TEXT NOT NULL,
    scopes          TEXT NOT NULL,
    -- Keys of channels; null: all channels.
    channels        TEXT,
    chat_kinds      TEXT NOT NULL,
    content         INTEGER NOT NULL,
    ordering        TEXT NOT NULL,
    -- The retry policy; null: the long schedule.
    max_retries     INTEGER,
    retry_delay     INTEGER,
    active          INTEGER NOT NULL,
    -- All secrets are sealed.
    secret          BLOB NOT NULL,
    previous_secret BLOB,
    previous_until  INTEGER,
    header_names    TEXT NOT NULL,
    headers         BLOB,
    version         INTEGER NOT NULL,
    revision        INTEGER NOT NULL,
    -- It receives the events behind this one.
    after_seq       INTEGER NOT NULL,
    disabled_at     INTEGER,
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL,
    -- The row stays until its deliveries are deleted.
    deleted         INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX webhooks_by_id ON webhooks (id);
CREATE INDEX webhooks_of_owner ON webhooks (institution_id, environment, key);
CREATE INDEX webhooks_deleted ON webhooks (key) WHERE deleted;

-- The state of a webhook's deliveries. Whoever changes which deliveries can be claimed locks this row first.
CREATE TABLE webhook_queues (
    webhook_key       INTEGER NOT NULL PRIMARY KEY REFERENCES webhooks (key),
    -- When a claim of each lane finds a delivery; null: not before something changes.
    due_first         INTEGER,
    due_retry         INTEGER,
    due_failing       INTEGER,
    -- The failed attempts since the last successful one.
    failures          INTEGER NOT NULL,
    failing_since     INTEGER,
    last_delivered_at INTEGER,
    -- The last failure said that the address is gone.
    gone              INTEGER NOT NULL,
    -- Waiting deliveries of events up to this one are being ended, because the webhook was disabled.
    end_until         INTEGER
) STRICT;
CREATE INDEX webhook_queues_first ON webhook_queues (due_first) WHERE due_first IS NOT NULL;
CREATE INDEX webhook_queues_retry ON webhook_queues (due_retry) WHERE due_retry IS NOT NULL;
CREATE INDEX webhook_queues_failing ON webhook_queues (due_failing) WHERE due_failing IS NOT NULL;
CREATE INDEX webhook_queues_ending ON webhook_queues (webhook_key) WHERE end_until IS NOT NULL;

-- One row, from the first webhook on: deliveries exist for the events up to `seq`. A node creates them while it has the lease.
CREATE TABLE fan_out (
    n           INTEGER NOT NULL PRIMARY KEY CHECK (n = 1),
    seq         INTEGER NOT NULL,
    leader      BLOB,
    lease_until INTEGER
) STRICT;

-- One event for one webhook. A delivery says nothing of a person: its body is made of the event when it is sent.
CREATE TABLE deliveries (
    event_seq       INTEGER NOT NULL,
    webhook_key     INTEGER NOT NULL,
    event           TEXT NOT NULL,
    event_at        INTEGER NOT NULL,
    -- Deliveries with the same number are sent one after another, in the order of their events.
    queue           INTEGER,
    -- 0 waits or is in flight, 1 delivered, 2 dead letter.
    state           INTEGER NOT NULL,
    -- It waits, and is the first of its queue.
    head            INTEGER NOT NULL,
    -- 0 first attempt, 1 others.
    lane            INTEGER NOT NULL,
    -- In flight until `next_attempt_at`.
    leased          INTEGER NOT NULL,
    next_attempt_at INTEGER,
    attempt         INTEGER NOT NULL,
    -- The failed attempts of this round; a replay begins a new one.
    failures        INTEGER NOT NULL,
    replay          INTEGER NOT NULL,
    created_at      INTEGER NOT NULL,
    ended_at        INTEGER,
    -- JSON: the last attempts.
    attempts        TEXT,
    PRIMARY KEY (event_seq, webhook_key)
) STRICT, WITHOUT ROWID;
CREATE INDEX deliveries_by_state ON deliveries (webhook_key, state, event_seq);
CREATE INDEX deliveries_due ON deliveries (webhook_key, lane, next_attempt_at, event_seq) WHERE head;
CREATE INDEX deliveries_waiting ON deliveries (webhook_key, queue, event_seq) WHERE state = 0;
CREATE INDEX deliveries_leased ON deliveries (webhook_key, next_attempt_at) WHERE leased;
