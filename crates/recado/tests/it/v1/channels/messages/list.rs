//! `GET /v1/channels/{channelId}/messages`: newest first, page by page.

use serde_json::{Value, json};

use crate::harness::wait_for;
use crate::v1::{CARD, NO_CHANNEL, Stage, assert_faults, assert_refused, card, text};

const LIST: &str = "/v1/channels/held/messages";
const LIMIT: (&str, &str) = ("limit", "O limite deve ser um numero de 1 a 100.");
const CURSOR: (&str, &str) = ("cursor", "Cursor invalido.");
const STATUS: (&str, &str) =
    ("status", "O status deve ser QUEUED, SENDING, SENT, DELIVERED, UNKNOWN, READ, FAILED, EXPIRED ou CANCELLED.");
const TO: (&str, &str) = ("to", "O numero do destinatario deve estar no formato DDI+DDD+NUM.");
const UNKNOWN: &str = "Campo desconhecido.";
const REPEATED: &str = "Campo repetido.";

/// A paused channel `held` with this many messages. Returns their ids, newest first.
fn fill(stage: &Stage, count: usize) -> Vec<String> {
    stage.open("held", &["connect", "pause"]);
    let mut ids: Vec<_> = (0..count).map(|number| send(stage, &format!("55119999962{:02}", number % 3))).collect();
    ids.reverse();
    ids
}

fn send(stage: &Stage, to: &str) -> String {
    let answer = stage.send("held", &[], &card(to, "Maria")).expect(202);
    answer.header("X-Message-Id").expect("an id").to_owned()
}

fn ids(list: &Value) -> Vec<String> {
    list["data"].as_array().expect("a list").iter().map(|row| text(row, "id").to_owned()).collect()
}

#[test]
fn a_list_is_newest_first_and_shows_messages_whole() {
    let stage = Stage::set();
    stage.open("empty", &[]);
    let empty = stage.get("/v1/channels/empty/messages").expect(200);
    assert_eq!(empty.text(), r#"{"data":[],"pagination":{"limit":20,"nextCursor":null}}"#);
    let all = fill(&stage, 25);
    let list = stage.get(LIST).expect(200).json();
    assert_eq!(ids(&list), all[..20]);
    assert_eq!(list["pagination"]["limit"], 20);
    assert!(list["pagination"]["nextCursor"].is_string(), "{list}");
    assert_eq!(list["data"][0], stage.data(&format!("{LIST}/{}", all[0])));
    assert_eq!(ids(&stage.get(&format!("{LIST}?limit=100")).expect(200).json()), all);
    assert_eq!(ids(&stage.get("/v1/channels/sandbox/messages").expect(200).json()), Vec::<String>::new());
}

/// Reads all pages of a list; `between` runs after each.
fn read_pages(stage: &Stage, path: &str, mut between: impl FnMut()) -> Vec<Vec<String>> {
    let (mut pages, mut cursor) = (Vec::new(), String::new());
    loop {
        let list = stage.get(&format!("{path}{cursor}")).expect(200).json();
        pages.push(ids(&list));
        between();
        let Some(next) = list["pagination"]["nextCursor"].as_str() else { return pages };
        assert!(pages.len() < 100, "the pages have no end");
        cursor = format!("&cursor={next}");
    }
}

#[test]
fn pages_have_no_gap_and_no_repeat_while_messages_arrive() {
    let stage = Stage::set();
    let all = fill(&stage, 23);
    for (limit, sizes) in [(1, vec![1; 23]), (7, vec![7, 7, 7, 2]), (23, vec![23]), (22, vec![22, 1]), (100, vec![23])]
    {
        let pages = read_pages(&stage, &format!("{LIST}?limit={limit}"), || {});
        assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), sizes);
        assert_eq!(pages.concat(), all, "limit {limit}");
    }
    let moving = read_pages(&stage, &format!("{LIST}?limit=5"), || drop(send(&stage, "5511999996200")));
    assert_eq!(moving.concat(), all);
    let third: Vec<_> = all.iter().rev().step_by(3).rev().cloned().collect();
    let filtered = read_pages(&stage, &format!("{LIST}?limit=3&to=5511999996200"), || {});
    // The messages that came in meanwhile have the same recipient, and are at the front.
    assert_eq!(filtered.concat()[5..], third);
}

#[test]
fn filters_narrow_the_list() {
    let stage = Stage::set();
    let all = fill(&stage, 9);
    let found = |query: &str| ids(&stage.get(&format!("{LIST}?limit=100{query}")).expect(200).json());
    let third: Vec<_> = all.iter().rev().step_by(3).rev().cloned().collect();
    for to in ["5511999996200", "%2B55%20(11)%2099999-6200", "55+11+99999.6200"] {
        assert_eq!(found(&format!("&to={to}")), third, "{to}");
    }
    assert_eq!(found("&to=5511999996209"), Vec::<String>::new());
    for status in ["SENDING", "SENT", "DELIVERED", "READ", "FAILED", "EXPIRED", "CANCELLED", "UNKNOWN"] {
        assert_eq!(found(&format!("&status={status}")), Vec::<String>::new(), "{status}");
    }
    assert_eq!(found("&status=QUEUED"), all);
    stage.server.delete(&format!("{LIST}/{}", third[1]), Some(&stage.key)).expect(200);
    assert_eq!(found("&status=CANCELLED"), third[1..2]);
    assert_eq!(found("&status=QUEUED&to=5511999996200"), [third[0].clone(), third[2].clone()]);
    assert_eq!(found("&status=CANCELLED&to=5511999996201"), Vec::<String>::new());
    stage.act("held", "resume");
    wait_for("all others to be read", || found("&status=READ").len() == 8);
    let pages = read_pages(&stage, &format!("{LIST}?limit=3&status=READ"), || {});
    assert_eq!(pages.concat(), found("&status=READ"));
}

#[test]
fn unknown_parameters_of_a_list_are_refused() {
    let stage = Stage::set();
    fill(&stage, 2);
    let foreign = stage.accept("sandbox", &[], CARD);
    let foreign = format!("cursor={}", foreign.rsplit('/').next().expect("an id"));
    for (query, expected) in [
        ("limit=0", &[LIMIT][..]),
        ("limit=101", &[LIMIT]),
        ("limit=-1", &[LIMIT]),
        ("limit=", &[LIMIT]),
        ("limit=ten", &[LIMIT]),
        ("limit=1.5", &[LIMIT]),
        ("limit=99999999999999999999", &[LIMIT]),
        ("cursor=", &[CURSOR]),
        ("cursor=x", &[CURSOR]),
        ("cursor=00000000-0000-0000-0000-000000000000", &[CURSOR]),
        (&foreign, &[CURSOR]),
        ("status=", &[STATUS]),
        ("status=read", &[STATUS]),
        ("status=LOST", &[STATUS]),
        ("status=READ,SENT", &[STATUS]),
        ("to=", &[TO]),
        ("to=123", &[TO]),
        ("to=%FF5511999996200", &[TO]),
        ("page=2", &[("page", UNKNOWN)]),
        ("offset=2", &[("offset", UNKNOWN)]),
        ("Limit=2", &[("Limit", UNKNOWN)]),
        ("x", &[("x", UNKNOWN)]),
        ("limit=2&limit=2", &[("limit", REPEATED)]),
    ] {
        assert_faults(query, &stage.get(&format!("{LIST}?{query}")), expected);
    }
    // One answer names all of them, in any order.
    let answer = stage.get(&format!("{LIST}?to=1&status=x&limit=0&cursor=x&y=1")).expect(400).json();
    let mut fields: Vec<_> =
        answer["errors"].as_array().expect("errors").iter().map(|one| text(one, "field")).collect();
    fields.sort_unstable();
    assert_eq!(fields, ["cursor", "limit", "status", "to", "y"]);
    for (limit, count) in [(1, 1), (100, 2)] {
        let list = stage.get(&format!("{LIST}?limit={limit}")).expect(200).json();
        assert_eq!((list["pagination"]["limit"].clone(), ids(&list).len()), (json!(limit), count));
    }
    assert_refused("no channel", &stage.get("/v1/channels/nowhere/messages"), NO_CHANNEL);
}
