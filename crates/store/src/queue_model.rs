//! The queue against a model: random operations, crashes, lost answers and passing time, and after each step the
//! invariants.
//!
//! The model does not predict what a claim returns. It says what no claim may do (send out of order, send twice where
//! that doubles, lose, finish twice) and what every claim must do (leave no queue idle whose head may be sent), and
//! then adopts the observed result. It predicts all other operations completely.

mod claims;
mod ops;
mod world;

pub(super) use ops::{Op, Rule, ops, rules};

use proptest::prelude::*;
use world::World;

use crate::fixtures::{Engine, Ground, PgDatabase, SqliteFile};

const RECIPIENTS: [&str; 3] = ["551", "552", "553"];

/// Small enough to be met.
const BACKLOG_CAP: usize = 9;

pub(super) fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 3_000, ..ProptestConfig::default() }
}

/// Does these things on a store of this engine. `begin` is run when its channels are there, and `end` when all is done.
pub(super) fn keeps_its_promises(
    engine: impl Engine + 'static,
    rules: &[Rule],
    ops: Vec<Op>,
    begin: impl AsyncFnOnce(&Ground),
    end: impl AsyncFnOnce(&Ground),
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut world = World::new(engine, rules).await;
        begin(&world.ground).await;
        for op in ops {
            world.step(op).await;
        }
        world.drain().await;
        end(&world.ground).await;
        world.ground.store.close().await;
    });
}

proptest! {
    #![proptest_config(config(200))]

    #[test]
    fn the_queue_keeps_its_promises(rules in rules(), ops in ops()) {
        keeps_its_promises(SqliteFile::new(), &rules, ops, async |_| {}, async |_| {});
    }
}

proptest! {
    #![proptest_config(config(20))]

    #[test]
    fn the_shared_queue_keeps_its_promises(rules in rules(), ops in ops()) {
        keeps_its_promises(PgDatabase::new(), &rules, ops, async |_| {}, async |_| {});
    }
}
