use std::time::{Duration, Instant};

use crate::cloud_api::callback::*;
use crate::cloud_api::errors::ErrorClass;

const NOW: Millis = 1_800_000_000_000;

/// A callback as Meta documents it, with these statuses.
fn of_statuses(statuses: &str) -> String {
    format!(
        r#"{{"object":"whatsapp_business_account","entry":[{{"id":"102290129340398","changes":[{{"value":{{
        "messaging_product":"whatsapp","metadata":{{"display_phone_number":"15550783881","phone_number_id":"106540352242922"}},
        "statuses":[{statuses}]}},"field":"messages"}}]}}]}}"#
    )
}

fn parsed(body: &str) -> Callback {
    parse(body.as_bytes(), NOW).expect("JSON")
}

/// Asserts that the body has nothing but one part of unknown form.
fn assert_skipped(body: &str) {
    let callback = parsed(body);
    let found = (callback.statuses.len(), callback.received.len(), callback.skipped);
    assert_eq!(found, (0, 0, 1), "{body}");
}

fn status(text: &str) -> Status {
    let mut callback = parsed(&of_statuses(text));
    assert_eq!((callback.statuses.len(), callback.skipped), (1, 0), "{callback:?}");
    callback.statuses.remove(0)
}

#[test]
fn only_the_right_secret_and_body_match_a_signature() {
    // The vector in the documentation of whatsapp_sdk (hexdocs.pm/whatsapp_sdk/WhatsApp.Webhook.html).
    let (secret, good) =
        (SecretString::from("secret"), "0329a06b62cd16b33eb6792be8c60b158d89a2ee3a876fce9a881ebb488c0914");
    assert!(is_signed(&secret, &format!("sha256={good}"), b"test"));
    assert!(is_signed(&secret, &format!("sha256={}", good.to_uppercase()), b"test"));
    assert!(!is_signed(&secret, &format!("sha256={good}"), b"test "));
    assert!(!is_signed(&SecretString::from("Secret"), &format!("sha256={good}"), b"test"));
    let bad = [
        String::new(),
        "sha256=".to_owned(),
        good.to_owned(),
        format!("sha1={good}"),
        format!("sha256={}", &good[1..]),
        format!("sha256={}", &good[2..]),
        format!("sha256={good}00"),
        format!("sha256= {}", &good[1..]),
        format!("sha256=+3{}", &good[2..]),
        format!("sha256=é{}", &good[2..]),
        format!("sha256={}", "0".repeat(64)),
    ];
    for header in bad {
        assert!(!is_signed(&secret, &header, b"test"), "{header}");
    }
}

#[test]
fn only_the_verify_token_verifies_the_address() {
    let known = |token| token == Fingerprint::of("palavra");
    let good = Verification { mode: "subscribe", token: "palavra", challenge: "1158201444" };
    assert_eq!(good.answer(known), Some("1158201444"));
    let long = "1".repeat(257);
    for bad in [
        Verification { mode: "unsubscribe", ..good },
        Verification { token: "Palavra", ..good },
        Verification { token: "", ..good },
        Verification { challenge: "", ..good },
        Verification { challenge: "<b>", ..good },
        Verification { challenge: "1\r\nX: y", ..good },
        Verification { challenge: &long, ..good },
    ] {
        // Letters such as < may be returned: the answer is plain text, which a browser does not interpret.
        let expected = (bad.challenge == "<b>").then_some("<b>");
        assert_eq!(bad.answer(known), expected, "{bad:?}");
    }
}

#[test]
fn a_status_is_read() {
    let text = r#"{"id":"wamid.HBgL","status":"delivered","timestamp":"1700000000","recipient_id":"5511999998888",
        "biz_opaque_callback_data":"msg_1","conversation":{"id":"x","origin":{"type":"utility"}},"pricing":{"billable":true,"pricing_model":"PMP","category":"utility","type":"regular"}}"#;
    let expected = Status {
        phone_number_id: "106540352242922".into(),
        remote_id: "wamid.HBgL".parse().unwrap(),
        opaque: Some("msg_1".to_owned()),
        stage: Stage::Delivered,
        at: 1_700_000_000_999,
        recipient_id: Some("5511999998888".to_owned()),
        pricing: Some(Pricing {
            billable: Some(true),
            model: Some("PMP".to_owned()),
            category: Some("utility".to_owned()),
        }),
        refusal: None,
    };
    assert_eq!(status(text), expected);
    for (word, stage) in [("sent", Stage::Sent), ("read", Stage::Read), ("failed", Stage::Failed)] {
        assert_eq!(status(&text.replace("delivered", word)).stage, stage);
    }
    for odd in ["null", "1", r#""PMP""#, "{}", r#"{"billable":"yes","pricing_model":7,"category":""}"#] {
        let (start, rest) = text.split_once(r#"{"billable""#).expect("a price");
        let end = rest.split_once('}').expect("its end").1;
        assert_eq!(status(&format!("{start}{odd}{end}")).pricing, None, "{odd}");
    }
}

#[test]
fn a_failed_message_reports_the_reason() {
    let failed =
        |errors: &str| status(&format!(r#"{{"id":"a","status":"failed"{errors}}}"#)).refusal.expect("a refusal");
    let refusal = failed(
        r#","errors":[{"code":131047,"title":"Re-engagement message","error_data":{"details":"+55 11 99999-8888"}},
        {"code":190}]"#,
    );
    assert_eq!((refusal.class, refusal.name), (ErrorClass::PermanentFailure, "WINDOW_CLOSED"));
    assert!(refusal.text.ends_with("(Meta 131047)"), "{}", refusal.text);
    assert_eq!(failed(r#","errors":[{"code":"131026"}]"#).name, "UNDELIVERABLE");
    for none in ["", r#","errors":[]"#, r#","errors":{}"#, r#","errors":[1]"#, r#","errors":[{"code":{}}]"#] {
        let refusal = failed(none);
        assert_eq!((refusal.name, &*refusal.text), ("NETWORK_REFUSED", "A Meta recusou a mensagem. (Meta sem codigo)"));
    }
    assert_eq!(status(r#"{"id":"a","status":"sent","errors":[{"code":131047}]}"#).refusal, None);
}

#[test]
fn a_time_is_never_after_now() {
    let at = |timestamp: &str| status(&format!(r#"{{"id":"a","status":"read","timestamp":{timestamp}}}"#)).at;
    assert_eq!(at("\"1700000000\""), 1_700_000_000_999);
    assert_eq!(at("1700000000"), 1_700_000_000_999);
    assert_eq!(at("1800000000"), NOW);
    let absurd = [
        "1900000000",
        "9223372036854775807",
        "\"99999999999999999999\"",
        "-1",
        "0",
        "1",
        "1.7e9",
        "null",
        "{}",
        "\"\"",
        "\"ontem\"",
    ];
    for absurd in absurd {
        assert_eq!(at(absurd), NOW, "{absurd}");
    }
    assert_eq!(status(r#"{"id":"a","status":"read"}"#).at, NOW);
}

#[test]
fn one_malformed_status_does_not_delay_the_others() {
    let malformed = [
        "1",
        "null",
        "[]",
        "{}",
        r#"{"id":1,"status":"sent"}"#,
        r#"{"id":"","status":"sent"}"#,
        r#"{"id":"a"}"#,
        r#"{"id":"a b","status":"sent"}"#,
        r#"{"id":"a","status":"deleted"}"#,
        r#"{"id":"a","status":"sent","id":"b"}"#,
    ];
    let long = format!(r#"{{"id":"{}","status":"sent"}}"#, "a".repeat(256));
    let good = r#"{"id":"b","status":"sent"}"#;
    let callback = parsed(&of_statuses(&format!("{},{long},{good}", malformed.join(","))));
    assert_eq!(callback.skipped, malformed.len() + 1);
    assert_eq!(callback.statuses.iter().map(|status| &*status.remote_id).collect::<Vec<_>>(), ["b"]);
}

#[test]
fn malformed_details_of_a_status_are_dropped() {
    let other = r#"{"id":"a","status":"sent","recipient_id":"BR.1","biz_opaque_callback_data":7}"#;
    assert_eq!((status(other).recipient_id, status(other).opaque), (None, None));
    let long = format!(r#"{{"id":"a","status":"sent","biz_opaque_callback_data":"{}"}}"#, "x".repeat(513));
    assert_eq!(status(&long).opaque, None);
}

#[test]
fn other_kinds_are_passed_over() {
    for body in [
        r#"{"entry":[{"changes":[{"field":"messages","value":{"metadata":{"phone_number_id":"1"},"errors":[{"code":131000}]}}]}]}"#,
        r#"{"entry":[{"changes":[{"field":"account_update","value":"BANNED"}]}]}"#,
        r#"{"entry":[{"changes":[{"field":"x","value":null}]}]}"#,
        r#"{"entry":[{"changes":[]}]}"#,
        r#"{"entry":[{}]}"#,
        r#"{"entry":[]}"#,
        r#"{"object":"page"}"#,
        "{}",
    ] {
        let callback = parsed(body);
        assert!(callback.statuses.is_empty() && callback.received.is_empty() && callback.skipped == 0, "{body}");
    }
}

#[test]
fn statuses_of_a_malformed_number_are_skipped() {
    for metadata in
        ["", r#""metadata":{},"#, r#""metadata":{"phone_number_id":1},"#, r#""metadata":{"phone_number_id":"../x"},"#]
    {
        let statuses = r#""statuses":[{"id":"a","status":"sent"}]"#;
        let body = format!(r#"{{"entry":[{{"changes":[{{"value":{{{metadata}{statuses}}}}}]}}]}}"#);
        assert_skipped(&body);
    }
}

#[test]
fn only_a_body_that_is_not_json_is_an_error() {
    for body in [&b""[..], b"{", b"{}}", b"status=read", b"\xff", b"{\"entry\":[{\"changes\":[}]}", b"\"\xff\""] {
        assert_eq!(parse(body, NOW).map(drop), Err(NotJson), "{body:?}");
    }
    for body in
        ["1", "null", "\"a\"", r#"{"entry":{}}"#, r#"{"entry":1}"#, r#"{"entry":[1]}"#, r#"{"entry":[{"changes":1}]}"#]
    {
        assert_skipped(body);
    }
}

/// 3 MiB in the most expensive forms: deep, long, and long in the parts that are read.
#[test]
fn hostile_json_costs_little() {
    const SIZE: usize = 3 << 20;
    const SENT: &str = r#"{"id":"a","status":"sent"}"#;
    let filled = |item: &str, around: fn(&str) -> String| around(&vec![item; SIZE / (item.len() + 1)].join(","));
    let bodies = [
        (format!("{}{}", "[".repeat(SIZE / 2), "]".repeat(SIZE / 2)), Ok(0)),
        (format!("{}1{}", r#"{"entry":["#.repeat(SIZE / 12), "]}".repeat(SIZE / 12)), Ok(0)),
        ("[".repeat(SIZE), Err(NotJson)),
        (filled("0", |items| format!(r#"{{"entry":[{items}]}}"#)), Ok(0)),
        (filled("{}", |items| format!(r#"{{"entry":[{items}]}}"#)), Ok(0)),
        (filled("[]", of_statuses), Ok(0)),
        (filled(SENT, of_statuses), Ok(SIZE / (SENT.len() + 1))),
        (filled("{}", |items| of_statuses(&format!(r#"{{"id":"a","status":"failed","errors":[{items}]}}"#))), Ok(1)),
        (of_statuses(&format!(r#"{{"id":"{}","status":"sent"}}"#, "\\u0061".repeat(SIZE / 6))), Ok(0)),
        (of_statuses(&format!(r#"{{"id":"a","status":"sent","timestamp":{}}}"#, "9".repeat(SIZE))), Ok(1)),
    ];
    for (body, expected) in bodies {
        let start = Instant::now();
        let found = parse(body.as_bytes(), NOW).map(|callback| callback.statuses.len());
        println!("{:>8.1?} {:?} {}…", start.elapsed(), found, &body[..40]);
        assert_eq!(found, expected, "{}", &body[..40]);
        assert!(start.elapsed() < Duration::from_mins(1), "{}", &body[..40]);
    }
}

#[test]
fn ids_are_found_without_reading_the_body() {
    let body = of_statuses(r#"{"id":"wamid.X","text":"\"phone_number_id\":\"666\"","note":{"id" : "77"}}"#);
    let found = ids(body.as_bytes());
    assert_eq!((found.numbers, found.accounts), (vec!["106540352242922"], vec!["102290129340398", "77"]));
    let long = format!(r#"{{"id":"{}","phone_number_id":"","id":12,"id":"1"#, "1".repeat(33));
    assert_eq!(ids(long.as_bytes()), Ids::default());
    let many: Vec<_> = (0..1_000).map(|n| format!(r#"{{"phone_number_id":"{n}"}}"#)).collect();
    assert_eq!(ids(many.join(",").as_bytes()).numbers.len(), IDS);
}

/// One hash for a token, however many channels there are, and none for a token that cannot be valid.
#[test]
fn a_token_is_looked_up_once() {
    let mut lookups = 0;
    let mut asked = |token: &str| {
        let asked = Verification { mode: "subscribe", token, challenge: "1" };
        asked.answer(|_| {
            lookups += 1;
            false
        });
    };
    asked("outra");
    asked(&"x".repeat(SECRET_LIMIT + 1));
    asked("");
    assert_eq!(lookups, 1);
}
