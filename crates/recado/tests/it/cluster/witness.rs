//! The database notes who claims, settles and sends, and who holds the channel at that moment. A node is known by the name
//! of its connections.

use std::time::Duration;

use super::Place;

/// Receipts are anybody's to write; by them a message becomes DELIVERED (3) or READ (5).
const TABLES: &str = "
create table witnessed (
    what    text   not null,
    channel bigint not null,
    by_node text   not null default current_setting('application_name'),
    holder  text
);
create function witness() returns trigger language plpgsql as $$ begin
    -- Where its holder is taken for dead and it has no other yet, it is nobody's.
    insert into witnessed (what, channel, holder)
        select tg_argv[0], c.key, n.name from channels c left join nodes n on n.id = c.lease_node
        where c.key = new.channel_key;
    return new;
end $$;
create trigger claimed_or_settled after update on messages for each row
    when (old.status <> new.status and old.status <= 1 and new.status in (0, 1, 2, 4))
    execute function witness('wrote');
-- Before the insert: so it is there for what the phone has already, too.
create trigger sent before insert on sandbox_phone for each row execute function witness('sent');";

impl Place {
    /// From now on the database notes it.
    pub fn witness(&self) {
        test_postgres::run(self.database.url(), TABLES);
    }

    /// From now on the sandbox's network takes so long for a card, whatever becomes of who sends it.
    pub fn slow_network(&self, time: Duration) {
        let sql = format!(
            "create function take_time() returns trigger language plpgsql as
                 $$ begin perform pg_sleep({}); return new; end $$;
             create trigger take_time before insert on sandbox_phone for each row execute function take_time();",
            time.as_secs_f64()
        );
        test_postgres::run(self.database.url(), &sql);
    }

    /// How often a node claimed, settled or sent.
    pub fn witnessed(&self, node: &str) -> i64 {
        self.number(&format!("select count(*) from witnessed where by_node = '{node}'"))
    }

    /// The same of what nodes did to channels that were another's: `wrote` or `sent`.
    pub fn witnessed_of_strangers(&self, what: &str) -> i64 {
        self.number(&format!("select count(*) from witnessed where what = '{what}' and by_node <> holder"))
    }
}
