//! The limits that hold for all nodes together: idempotency keys, rate limits, revoked keys, default countries.

use std::thread::scope;
use std::time::{Duration, Instant};

use serde_json::json;

use super::Place;
use crate::harness::{Server, wait_for};
use crate::load::{card, open_channel};

fn body(number: usize) -> serde_json::Value {
    serde_json::from_str(&card(0, number)).expect("JSON")
}

fn nodes(place: &Place, count: usize) -> Vec<Server> {
    (0..count).map(|number| place.start(&format!("node{number}"), &[])).collect()
}

#[test]
fn one_idempotency_key_makes_one_message_on_all_nodes() {
    let place = Place::new();
    let (key, nodes) = (place.home.unlimited_key(), nodes(&place, 3));
    open_channel(&nodes[0], &key, "c000");
    wait_for("all nodes to know the channel", || {
        nodes.iter().all(|node| node.get("/v1/channels/c000", Some(&key)).status == 200)
    });
    for round in 0..30 {
        let idempotency_key = format!("round-{round}");
        let call = |node: &Server| {
            let headers = [("Content-Type", "application/json"), ("Idempotency-Key", idempotency_key.as_str())];
            let body = body(round).to_string();
            node.call("POST", "/v1/channels/c000/messages/contact", Some(&key), &headers, Some(body.as_bytes()))
        };
        let answers: Vec<_> = scope(|scope| {
            let call = &call;
            let threads: Vec<_> = nodes.iter().cycle().take(9).map(|node| scope.spawn(move || call(node))).collect();
            threads.into_iter().map(|thread| thread.join().expect("an answer").expect(202)).collect()
        });
        let ids: std::collections::HashSet<_> = answers.iter().map(|answer| answer.header("X-Message-Id")).collect();
        assert_eq!(ids.len(), 1, "{ids:?}");
        let new = answers.iter().filter(|answer| answer.header("Idempotent-Replayed") != Some("true")).count();
        assert_eq!(new, 1, "one of them was new");
    }
    assert_eq!(place.number("SELECT count(*) FROM messages"), 30);
}

#[test]
fn a_revoked_key_is_refused_on_all_nodes_within_a_second() {
    let place = Place::new();
    let nodes = nodes(&place, 3);
    for _ in 0..5 {
        let made = place.home.cli(&[
            "keys",
            "create",
            "--name",
            "tests",
            "--environment",
            "test",
            "--scopes",
            "channels.read",
        ]);
        let (id, key) = (made["id"].as_str().expect("an id"), made["key"].as_str().expect("a key"));
        wait_for("all nodes to know the key", || {
            nodes.iter().all(|node| node.get("/v1/channels", Some(key)).status == 200)
        });
        let admin = &place.home.test_key;
        nodes[0].delete(&format!("/v1/api-keys/{id}"), Some(admin)).expect(200);
        let revoked = Instant::now();
        wait_for("all nodes to refuse the key", || {
            nodes.iter().all(|node| node.get("/v1/channels", Some(key)).status == 401)
        });
        println!("refused everywhere {:?} after it was revoked", revoked.elapsed());
        assert!(revoked.elapsed() < Duration::from_secs(1), "{:?}", revoked.elapsed());
    }
}

#[test]
fn a_default_country_is_known_on_all_nodes() {
    let place = Place::new();
    let nodes = nodes(&place, 2);
    let key = place.home.unlimited_key();
    let answers = || {
        let body = json!({"to": "11 98888-7777", "name": "Maria", "phone": "0800 777 1234"});
        let send = |node: &Server| node.post("/v1/channels/sandbox/messages/contact", &key, &body).status;
        nodes.iter().map(send).collect::<Vec<_>>()
    };
    wait_for("all nodes to know the key", || answers() == [400, 400]);
    for (country, expected) in [("BR", [202, 202]), ("server", [400, 400])] {
        place.home.cli(&["institutions", "update", "--default-country", country]);
        let set = Instant::now();
        wait_for("all nodes to know the default country", || answers() == expected);
        println!("known everywhere {:?} after it was set", set.elapsed());
    }
    // An institution that is created with a country has it from the first call on.
    let made = place.home.cli(&["institutions", "create", "--name", "Santos", "--default-country", "BR"]);
    let body = json!({"to": "11 98888-7777", "name": "Maria", "phone": "0800 777 1234"});
    for node in &nodes {
        node.post("/v1/channels/sandbox/messages/contact", made["testKey"].as_str().expect("a key"), &body).expect(202);
    }
}

#[test]
fn a_keys_limit_holds_over_all_nodes_with_skewed_traffic_too() {
    const LIMIT: u32 = 600;
    let place = Place::new();
    let nodes = nodes(&place, 3);
    let limit = LIMIT.to_string();
    let args = ["keys", "create", "--name", "tests", "--environment", "test", "--scopes", "channels.write"];
    let made = place.home.cli(&[&args[..], &["--rate-limit", &limit]].concat());
    let key = made["key"].as_str().expect("a key");
    wait_for("all nodes to know the key", || {
        nodes.iter().all(|node| node.post("/v1/channels", key, &json!({})).status == 400)
    });
    let spent = nodes.len();
    let begun = Instant::now();
    // The third node gets a call now and then, the first as many as it can answer.
    let pauses = [Duration::ZERO, Duration::from_millis(40), Duration::from_secs(2)];
    let hammer = |node: &Server, pause: Duration| {
        let mut admitted = 0;
        while begun.elapsed() < Duration::from_mins(1) {
            let answer = node.post("/v1/channels", key, &json!({}));
            admitted += usize::from(answer.status == 400);
            assert!([400, 429].contains(&answer.status), "{}", answer.text());
            std::thread::sleep(pause.max(Duration::from_millis(5)));
        }
        admitted
    };
    let admitted: usize = scope(|scope| {
        let hammer = &hammer;
        let threads: Vec<_> =
            nodes.iter().zip(pauses).map(|(node, pause)| scope.spawn(move || hammer(node, pause))).collect();
        threads.into_iter().map(|thread| thread.join().expect("it goes on")).sum::<usize>() + spent
    });
    // A full bucket, and the tokens that were added within the minute.
    let allowed = 2.0 * f64::from(LIMIT) * begun.elapsed().as_secs_f64().max(60.0) / 60.0;
    #[expect(clippy::cast_precision_loss, reason = "some hundred")]
    let ratio = admitted as f64 / allowed;
    println!("{admitted} calls of {allowed:.0} went through: {ratio:.3}");
    assert!((0.9..=1.1).contains(&ratio), "{admitted} of {allowed}");
}

/// Many reads of one institution wait for a table. Beyond its share they are refused, and another institution reads on.
#[test]
fn reads_that_hang_delay_no_other_institution() {
    const CALLS: usize = 300;
    const LOCK: &str = "BEGIN; LOCK TABLE contacts; SELECT pg_sleep(5); COMMIT";
    let place = Place::new();
    let node = place.start("node0", &[]);
    let args = ["keys", "create", "--name", "tests", "--environment", "test", "--scopes", "contacts.read"];
    let made = place.home.cli(&[&args[..], &["--rate-limit", "unlimited"]].concat());
    let key = made["key"].as_str().expect("a key");
    let other = place.home.cli(&["institutions", "create", "--name", "Santos"]);
    let other = other["testKey"].as_str().expect("a key");
    let read_on = || node.get("/v1/webhooks", Some(other)).status == 200;
    wait_for("the node to know the keys", || node.get("/v1/contacts", Some(key)).status == 200 && read_on());
    let locks = |granted: &str| {
        let of_table = "SELECT count(*) FROM pg_locks WHERE relation = 'contacts'::regclass AND";
        place.number(&format!("{of_table} mode IN ('AccessShareLock', 'AccessExclusiveLock') AND {granted}"))
    };
    let statuses: Vec<u16> = scope(|scope| {
        scope.spawn(|| test_postgres::run(place.database.url(), LOCK));
        wait_for("the table to be locked", || locks("granted") > 0);
        let call = || node.get("/v1/contacts", Some(key)).status;
        let calls: Vec<_> = (0..CALLS).map(|_| scope.spawn(call)).collect();
        wait_for("calls to wait for the table", || locks("NOT granted") > 0);
        for _ in 0..10 {
            assert!(read_on(), "another institution reads");
            let waiting = locks("NOT granted");
            // A quarter of the 16 connections of a node.
            assert!((1..=4).contains(&waiting), "{waiting} connections wait for the table");
        }
        calls.into_iter().map(|call| call.join().expect("an answer")).collect()
    });
    assert!(statuses.iter().all(|status| [200, 503].contains(status)), "{statuses:?}");
    assert!(statuses.contains(&503), "the line of the institution is bounded");
    assert!(read_on() && node.get("/v1/contacts", Some(key)).status == 200, "there is room again");
}
