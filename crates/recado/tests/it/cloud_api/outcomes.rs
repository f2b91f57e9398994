//! The effect of Meta's answers on the message, the recipient and the channel.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use fake_graph::{Answer, Behaviour, Callback, GraphError, Number, Status};
use serde_json::{Value, json};

use super::{NUMBER, Stage, credentials};
use crate::harness::wait_for;

const NO_CALLBACKS: [Status; 0] = [];

fn error(status: u16, code: i64) -> GraphError {
    GraphError::new(status, code, format!("(#{code}) of the test"))
}

fn act(stage: &Stage, channel: &str, action: &str) {
    stage.server.call("POST", &format!("/v1/channels/{channel}/{action}"), Some(&stage.key), &[], None).expect(200);
}

/// Waits until a channel is paused with a reason that contains this text.
#[track_caller]
fn until_paused(stage: &Stage, channel: &str, reason: &str) {
    let mut shown = Value::Null;
    wait_for(&format!("{channel} to be paused: {reason}"), || {
        shown = stage.channel(channel);
        shown["state"] == "PAUSED"
    });
    assert!(shown["stateReason"].as_str().is_some_and(|text| text.contains(reason)), "{shown}");
    assert_eq!(shown["accepts"], true);
}

/// Answers the first attempt of each message with an error, and accepts the next one.
fn once(errors: impl Fn(&str) -> GraphError + Send + 'static) -> impl FnMut(&fake_graph::Attempt) -> Behaviour + Send {
    let mut seen = HashSet::<Option<String>>::new();
    move |attempt| {
        if seen.insert(attempt.opaque_id.clone()) {
            Behaviour::refuse(errors(&attempt.to))
        } else {
            Behaviour::accept().calling_back(NO_CALLBACKS)
        }
    }
}

/// A recipient with the code in its last digits.
fn recipient(code: i64) -> String {
    format!("55119{code:08}")
}

fn code_of(to: &str) -> i64 {
    to[5..].parse().expect("digits")
}

#[test]
fn a_throttled_recipient_delays_no_other_recipient() {
    let busy = "5511900000000";
    let stage = Stage::linked();
    let free = Arc::new(AtomicBool::new(false));
    let now_free = free.clone();
    stage.graph.behave(move |attempt| {
        let refused = attempt.to == busy && !now_free.load(SeqCst);
        if refused { Behaviour::refuse(error(400, 131_056)) } else { Behaviour::accept().calling_back(NO_CALLBACKS) }
    });
    let held = [stage.accept("vendas", busy), stage.accept("vendas", busy)];
    let others: Vec<_> = (1..=200).map(|n| stage.accept("vendas", &recipient(n))).collect();
    others.iter().for_each(|id| drop(stage.until("vendas", id, "SENT")));
    stage.until("vendas", &held[0], "QUEUED");
    let behind = stage.message("vendas", &held[1]);
    assert_eq!((&behind["status"], &behind["attempts"]), (&json!("QUEUED"), &json!(0)));
    assert_eq!(stage.channel("vendas")["state"], "CONNECTED");
    free.store(true, SeqCst);
    held.iter().for_each(|id| drop(stage.until("vendas", id, "SENT")));
    let attempts = stage.graph.attempts();
    let accepted: Vec<_> =
        attempts.iter().filter(|a| a.to == busy && a.wamid.is_some()).map(|a| &a.opaque_id).collect();
    assert_eq!(accepted, [&Some(held[0].clone()), &Some(held[1].clone())]);
    assert!(others.iter().all(|id| stage.message("vendas", id)["attempts"] == 1));
}

#[test]
fn a_revoked_token_pauses_its_channel_and_a_new_one_resumes_it() {
    let stage = Stage::linked();
    stage.graph.add_number(Number::example("2"));
    stage.link("balcao", "2");
    let new = "EAAGnovo";
    stage.graph.set_access_token(NUMBER, new);
    let accept = |n: i64| (recipient(n % 5), stage.accept("vendas", &recipient(n % 5)));
    let mut waiting: Vec<_> = (0..30).map(accept).collect();
    until_paused(&stage, "vendas", "Gere um novo accessToken e conecte o canal de novo. (Meta 190)");
    waiting.extend((0..30).map(accept));
    let other = stage.accept("balcao", &recipient(1));
    stage.until("balcao", &other, "READ");
    // The cause still exists.
    act(&stage, "vendas", "resume");
    until_paused(&stage, "vendas", "Meta 190");
    // The other messages in flight are refused a little later.
    let all_wait = |stage: &Stage| waiting.iter().all(|(_, id)| stage.message("vendas", id)["status"] == "QUEUED");
    wait_for("the refusals", || all_wait(&stage));
    let stage = stage.crash();
    assert_eq!(stage.channel("vendas")["state"], "PAUSED");
    assert!(all_wait(&stage));
    let mut link = credentials(NUMBER);
    link["accessToken"] = new.into();
    let channel = stage.connect("vendas", &link).expect(200).json()["data"].clone();
    assert_eq!((&channel["state"], &channel["stateReason"]), (&json!("CONNECTED"), &Value::Null));
    waiting.iter().for_each(|(_, id)| drop(stage.until("vendas", id, "READ")));
    let accepted = stage.graph.attempts().into_iter().filter(|a| a.wamid.is_some() && a.number_id == NUMBER);
    let accepted: Vec<_> = accepted.map(|a| (a.to, a.opaque_id.expect("our id"))).collect();
    assert_eq!(accepted.len(), waiting.len());
    for n in 0..5 {
        let of =
            |all: &[(String, String)]| all.iter().filter(|(to, _)| *to == recipient(n)).cloned().collect::<Vec<_>>();
        assert_eq!(of(&accepted), of(&waiting), "in the order of each recipient");
    }
}

/// A send was in flight while the channel was connected again. Its refusal concerns the former token.
#[test]
fn a_late_refusal_of_the_former_token_pauses_nothing() {
    let stage = Stage::linked();
    let mut first = true;
    stage.graph.behave(move |_| {
        let late = Behaviour::refuse(error(401, 190)).after(Duration::from_secs(1));
        if std::mem::take(&mut first) { late } else { Behaviour::accept().calling_back(NO_CALLBACKS) }
    });
    let id = stage.accept("vendas", &recipient(1));
    wait_for("the send to be on its way", || stage.graph.attempts().len() == 1);
    stage.graph.set_access_token(NUMBER, "EAAGnovo");
    let mut link = credentials(NUMBER);
    link["accessToken"] = "EAAGnovo".into();
    stage.connect("vendas", &link).expect(200);
    let message = stage.until("vendas", &id, "SENT");
    assert_eq!(message["attempts"], 2);
    assert_eq!(stage.channel("vendas")["state"], "CONNECTED");
}

#[test]
fn a_lost_answer_is_not_sent_again() {
    let stage = Stage::linked();
    let mut answers = vec![Answer::Lost, Answer::Reset];
    answers.push(Answer::Foreign { status: 503, content_type: "text/html", body: "<h1>503</h1>".to_owned() });
    answers.push(Answer::Foreign { status: 200, content_type: "application/json", body: "{}".to_owned() });
    let wanted = answers.len();
    stage.graph.behave(move |_| match answers.pop() {
        Some(answer) => Behaviour::accept().answering(answer).calling_back(NO_CALLBACKS),
        None => Behaviour::accept().calling_back(NO_CALLBACKS),
    });
    let ids: Vec<_> = (0..wanted).map(|_| stage.accept("vendas", &recipient(1))).collect();
    ids.iter().for_each(|id| drop(stage.until("vendas", id, "UNKNOWN")));
    // Neither a restart nor a new connection changes that, and the message delays no other one.
    let stage = stage.crash();
    stage.connect("vendas", &credentials(NUMBER)).expect(200);
    let next = stage.accept("vendas", &recipient(1));
    stage.until("vendas", &next, "SENT");
    assert_eq!(stage.graph.attempts().len(), wanted + 1);
    for id in &ids {
        let message = stage.message("vendas", id);
        assert_eq!((&message["status"], &message["attempts"]), (&json!("UNKNOWN"), &json!(1)));
        let path = format!("/v1/channels/vendas/messages/{id}");
        stage.server.delete(&path, Some(&stage.key)).expect(409);
    }
}

#[test]
fn a_message_without_an_answer_is_sent_again_by_the_policy_resend() {
    let stage = Stage::linked();
    let settings = json!({"settings": {"unknownPolicy": "resend", "unknownWaitSeconds": 5}}).to_string();
    let json = [("Content-Type", "application/json")];
    stage.server.call("PUT", "/v1/channels/vendas", Some(&stage.key), &json, Some(settings.as_bytes())).expect(200);
    let mut lost = HashMap::<String, u32>::new();
    stage.graph.behave(move |attempt| {
        let tries = lost.entry(attempt.to.clone()).or_default();
        *tries += 1;
        let reported = if *tries == 1 && attempt.to == recipient(2) { vec![Status::Read] } else { vec![] };
        let accepted = Behaviour::accept().calling_back(reported);
        if *tries == 1 { accepted.answering(Answer::Lost) } else { accepted }
    });
    let (again, reported) = (stage.accept("vendas", &recipient(1)), stage.accept("vendas", &recipient(2)));
    stage.until("vendas", &again, "UNKNOWN");
    // The time continues while the server is down.
    let stage = stage.crash();
    let message = stage.until("vendas", &again, "SENT");
    assert_eq!(message["attempts"], 2);
    // A message that the network has reported is not sent again.
    assert_eq!(stage.until("vendas", &reported, "READ")["attempts"], 1);
    let of = |id: &String| stage.graph.attempts().iter().filter(|a| a.opaque_id.as_ref() == Some(id)).count();
    assert_eq!((of(&again), of(&reported)), (2, 1));
}

#[test]
fn each_refusal_of_a_message_has_its_name() {
    let names = [
        (100, "NETWORK_REFUSED_CONTENT"),
        (131_008, "NETWORK_REFUSED_CONTENT"),
        (131_009, "NETWORK_REFUSED_CONTENT"),
        (131_051, "NETWORK_REFUSED_CONTENT"),
        (130_472, "NOT_DELIVERED_BY_CHOICE"),
        (131_049, "NOT_DELIVERED_BY_CHOICE"),
        (130_497, "COUNTRY_RESTRICTED"),
        (131_021, "RECIPIENT_IS_SENDER"),
        (131_026, "UNDELIVERABLE"),
        (131_030, "RECIPIENT_NOT_ALLOWED"),
        (131_047, "WINDOW_CLOSED"),
        (999_999, "NETWORK_REFUSED"),
    ];
    let stage = Stage::linked();
    // For one half of the messages the answer reports the error, for the other half a callback does.
    let mut by_callback = false;
    stage.graph.behave(move |attempt| {
        let error = error(400, code_of(&attempt.to));
        by_callback = !by_callback;
        if by_callback {
            Behaviour::accept().calling_back([Status::Sent, Status::Failed(vec![error])])
        } else {
            Behaviour::refuse(error)
        }
    });
    let accept =
        |(code, name)| (0..4).map(|_| (code, name, stage.accept("vendas", &recipient(code)))).collect::<Vec<_>>();
    let sent: Vec<_> = names.into_iter().flat_map(accept).collect();
    for (code, name, id) in sent {
        let message = stage.until("vendas", &id, "FAILED");
        assert_eq!((&message["error"]["code"], &message["attempts"]), (&json!(name), &json!(1)), "{code}");
        let text = message["error"]["message"].as_str().expect("a text");
        assert!(text.ends_with(&format!("(Meta {code})")) && !text.contains("of the test"), "{text}");
    }
    assert_eq!(stage.channel("vendas")["state"], "CONNECTED");
}

#[test]
fn each_failure_of_the_account_pauses_the_channel() {
    let stage = Stage::linked();
    let codes = [0, 3, 10, 33, 102, 190, 200, 299, 368, 131_005, 131_031, 131_042, 131_048, 133_010];
    stage.graph.behave(once(|to| error(400, code_of(to))));
    for code in codes {
        let id = stage.accept("vendas", &recipient(code));
        until_paused(&stage, "vendas", &format!("(Meta {code})"));
        assert_eq!(stage.message("vendas", &id)["status"], "QUEUED", "{code}");
        act(&stage, "vendas", "resume");
        stage.until("vendas", &id, "SENT");
    }
    // The same holds when a callback reports it: that message fails, and the next ones wait.
    stage.graph.behave(|attempt| {
        Behaviour::accept().calling_back([Callback::from(Status::Failed(vec![error(0, code_of(&attempt.to))]))])
    });
    for (code, name) in [(368, "ACCOUNT_RESTRICTED"), (131_031, "ACCOUNT_LOCKED"), (131_042, "PAYMENT_MISSING")] {
        let id = stage.accept("vendas", &recipient(code));
        until_paused(&stage, "vendas", &format!("(Meta {code})"));
        assert_eq!(stage.until("vendas", &id, "FAILED")["error"]["code"], name);
        act(&stage, "vendas", "resume");
    }
}

#[test]
fn each_temporary_failure_is_retried() {
    let stage = Stage::set();
    let other = recipient(88_888_888);
    let mut refused_once = once(|to| match code_of(to) {
        code @ (2 | 131_016 | 131_057) => error(503, code),
        code @ (1 | 131_000) => error(500, code),
        // Unknown codes are classified by the status that comes with them.
        429 => error(429, 999_429),
        500 => error(500, 999_500),
        7 => error(400, 999_007).transient(true),
        code => error(400, code),
    });
    let accepted_at_once = other.clone();
    stage.graph.behave(move |attempt| {
        let accepted = || Behaviour::accept().calling_back(NO_CALLBACKS);
        if attempt.to == accepted_at_once { accepted() } else { refused_once(attempt) }
    });
    // Each code has its own channel: errors on a shared channel would delay one another.
    let of_channels = [2, 4, 17, 32, 429, 613, 80_007, 130_429, 131_016, 131_057];
    let of_messages = [1, 7, 500, 131_000, 131_056];
    let mut sent = Vec::new();
    for (code, channels) in
        of_channels.map(|code| (code, true)).into_iter().chain(of_messages.map(|code| (code, false)))
    {
        let channel = format!("c{code}");
        stage.graph.add_number(Number::example(&code.to_string()));
        stage.link(&channel, &code.to_string());
        let settings = json!({"settings": {"pipeline": 1}}).to_string();
        let json = [("Content-Type", "application/json")];
        let path = format!("/v1/channels/{channel}");
        stage.server.call("PUT", &path, Some(&stage.key), &json, Some(settings.as_bytes())).expect(200);
        let first = stage.accept(&channel, &recipient(code));
        wait_for("a first attempt", || stage.graph.attempts().iter().any(|a| a.opaque_id.as_ref() == Some(&first)));
        let next = stage.accept(&channel, &other);
        sent.push((code, channel, channels, first, next));
    }
    for (code, channel, _, first, next) in &sent {
        assert_eq!(stage.until(channel, first, "SENT")["attempts"], 2, "{code}");
        stage.until(channel, next, "SENT");
        assert_eq!(stage.channel(channel)["state"], "CONNECTED");
    }
    let attempts = stage.graph.attempts();
    for (code, _, of_channel, first, next) in &sent {
        let places = |id: &String| {
            attempts.iter().filter(|a| a.opaque_id.as_ref() == Some(id)).map(|a| a.at).collect::<Vec<_>>()
        };
        let (first, next) = (places(first), places(next));
        // An error of the channel delays all its messages; an error of the message delays only its recipient.
        assert_eq!(next[0] > first[1], *of_channel, "{code}: the other recipient's time");
    }
}
