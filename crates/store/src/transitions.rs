//! Both engines record the same events: a random history runs on a store of each engine, and the events of each message
//! and channel are compared. Each engine changes and records states in one statement, so equal events mean equal
//! transitions.

use std::collections::BTreeMap;

use proptest::prelude::*;
use recado_domain::api_key::Environment;
use recado_domain::channel::ChannelKey;
use recado_domain::clock::Millis;
use recado_domain::ids::MessageId;
use recado_domain::message::StatusChange;

use super::fixtures::{Engine, PgDatabase, SqliteFile};
use super::queue_model::{Op, Rule, config, keeps_its_promises, ops, rules};

/// The events of each message and channel in the order of their numbers, with their times.
type Recorded = BTreeMap<(ChannelKey, Option<MessageId>), Vec<(Millis, String)>>;

fn recorded(engine: impl Engine + 'static, rules: &[Rule], ops: Vec<Op>) -> Recorded {
    let mut recorded = Recorded::new();
    keeps_its_promises(
        engine,
        rules,
        ops,
        async |ground| ground.record_messages(Environment::Live, true).await,
        async |ground| {
            for event in ground.events(ground.event_query()).await {
                let of = event.channel.expect("of a channel").key;
                recorded.entry((of, event.message.map(|message| message.id))).or_default().push((event.at, event.data));
            }
        },
    );
    let messages = recorded.iter().filter(|((_, message), _)| message.is_some());
    for (subject, events) in messages {
        let mut state = None;
        for (_, data) in events {
            let what = StatusChange::from_json(data).expect("a change of a state");
            assert_eq!(what.from, state, "{subject:?}: {events:?}");
            state = Some(what.to);
        }
    }
    recorded
}

proptest! {
    #![proptest_config(config(20))]

    #[test]
    fn both_engines_record_the_same_events(rules in rules(), ops in ops()) {
        let sqlite = recorded(SqliteFile::new(), &rules, ops.clone());
        prop_assert_eq!(sqlite, recorded(PgDatabase::new(), &rules, ops));
    }
}
