//! Both engines make the same transitions: a random history on a store of each, and the states that each message went
//! through. Triggers of the databases write them down, so that no statement changes a state unseen.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use recado_domain::status::MessageStatus;

use super::fixtures::{PgDatabase, SqliteFile};
use super::queue_model::{Op, Rule, config, keeps_its_promises, ops, rules};
use super::sqlkit::postgres::hosts::Hosts;

/// The transitions of each message, by its id.
type Transitions = BTreeMap<Vec<u8>, Vec<(MessageStatus, MessageStatus)>>;

const SQLITE: &str = "
    create table transitions (n integer primary key, id blob, former integer, latter integer);
    create trigger written_down after update of status on messages when old.status <> new.status
    begin insert into transitions (id, former, latter) values (new.id, old.status, new.status); end";
const POSTGRES: &str = "
    create table transitions (n bigint generated always as identity, id bytea, former smallint, latter smallint);
    create function write_down() returns trigger language plpgsql as $$ begin
        insert into transitions (id, former, latter) values (new.id, old.status, new.status);
        return null;
    end $$;
    create trigger written_down after update on messages for each row
        when (old.status <> new.status) execute function write_down()";
const READ: &str = "select id, former, latter from transitions order by n";

fn noted(rows: Vec<(Vec<u8>, [i16; 2])>) -> Transitions {
    let status = |number: i16| u8::try_from(number).ok().and_then(MessageStatus::from_number).expect("a status");
    let mut transitions = Transitions::new();
    for (id, states) in rows {
        let [former, latter] = states.map(status);
        transitions.entry(id).or_default().push((former, latter));
    }
    transitions
}

fn of_sqlite(rules: &[Rule], ops: Vec<Op>) -> Transitions {
    let file = Arc::new(SqliteFile::new());
    keeps_its_promises(file.clone(), rules, ops, async || {
        let connection = rusqlite::Connection::open(file.path()).expect("the file opens");
        connection.execute_batch(SQLITE).expect("a trigger");
    });
    let connection = rusqlite::Connection::open(file.path()).expect("the file opens");
    let mut statement = connection.prepare(READ).expect("prepared");
    let rows = statement.query_map([], |row| Ok((row.get(0)?, [row.get(1)?, row.get(2)?]))).expect("read");
    noted(rows.collect::<rusqlite::Result<_>>().expect("read"))
}

fn of_postgres(rules: &[Rule], ops: Vec<Op>) -> Transitions {
    let database = Arc::new(PgDatabase::new());
    let url = database.direct_url();
    keeps_its_promises(database.clone(), rules, ops, async || test_postgres::run(url, POSTGRES));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let rows = runtime.block_on(async {
        let (client, connection) = Hosts::parse(url, "").expect("a URL").connect().await.expect("connected");
        let connection = tokio::spawn(connection);
        let rows = client.query(READ, &[]).await.expect("read");
        connection.abort();
        rows
    });
    noted(rows.iter().map(|row| (row.get(0), [row.get(1), row.get(2)])).collect())
}

proptest! {
    #![proptest_config(config(20))]

    #[test]
    fn both_engines_make_the_same_transitions(rules in rules(), ops in ops()) {
        let (sqlite, postgres) = (of_sqlite(&rules, ops.clone()), of_postgres(&rules, ops));
        prop_assert_eq!(sqlite, postgres);
    }
}
