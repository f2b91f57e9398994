//! An audit table in the database: which node claims, settles and sends, and which node owns the channel at that moment. A node is
//! identified by the name of its connections.

use std::time::Duration;

use super::Place;

/// Any node may write receipts, by which a message becomes DELIVERED (3) or READ (5).
const TABLES: &str = "
CREATE TABLE audit (
    what    text   NOT NULL,
    channel bigint NOT NULL,
    by_node text   NOT NULL DEFAULT current_setting('application_name'),
    owner   text
);
CREATE FUNCTION audit() RETURNS TRIGGER LANGUAGE plpgsql AS $$ BEGIN
    -- The owner is null after an eviction, until another node acquires the channel.
    INSERT INTO audit (what, channel, owner)
        SELECT tg_argv[0], c.key, n.name FROM channels c LEFT JOIN nodes n ON n.id = c.lease_node
        WHERE c.key = new.channel_key;
    RETURN NEW;
END $$;
CREATE TRIGGER claimed_or_settled AFTER UPDATE ON messages FOR EACH ROW
    WHEN (old.status <> new.status AND old.status <= 1 AND new.status IN (0, 1, 2, 4))
    EXECUTE FUNCTION audit('wrote');
-- Before the insert, so that repeated arrivals are recorded, too.
CREATE TRIGGER sent BEFORE INSERT ON sandbox_phone FOR EACH ROW EXECUTE FUNCTION audit('sent');";

impl Place {
    /// Starts the audit.
    pub fn start_audit(&self) {
        test_postgres::run(self.database.url(), TABLES);
    }

    /// Delays every arrival in the sandbox's network, whatever happens to the sender.
    pub fn slow_network(&self, time: Duration) {
        let sql = format!(
            "CREATE FUNCTION take_time() RETURNS TRIGGER LANGUAGE plpgsql AS
                 $$ BEGIN PERFORM pg_sleep({}); RETURN NEW; END $$;
             CREATE TRIGGER take_time BEFORE INSERT ON sandbox_phone FOR EACH ROW EXECUTE FUNCTION take_time();",
            time.as_secs_f64()
        );
        test_postgres::run(self.database.url(), &sql);
    }

    /// How often a node claimed, settled or sent.
    pub fn writes_of(&self, node: &str) -> i64 {
        self.number(&format!("SELECT count(*) FROM audit WHERE by_node = '{node}'"))
    }

    /// How often nodes acted on channels of another owner: `wrote` or `sent`.
    pub fn non_owner_writes(&self, what: &str) -> i64 {
        self.number(&format!("SELECT count(*) FROM audit WHERE what = '{what}' AND by_node <> owner"))
    }
}
