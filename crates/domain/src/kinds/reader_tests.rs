//! Shared helpers for the tests of the kinds, and the tests of the common fields.

use serde_json::{Value, json};

use super::common::every_common_field;
use super::{Call, Context, Feature, KINDS, Kind};
use crate::field_errors::FieldErrors;
use crate::json::Object;

pub const CONTEXT: Context =
    Context { country: None, now: 1_795_523_175_403, ignores_unknown: false, may_repeat: true };

fn parse(kind: &str, body: &str, context: &Context) -> Result<Call, FieldErrors> {
    Call::parse(Kind::named(kind).expect("a kind"), &Object::parse(body).expect("JSON"), false, context)
}

#[track_caller]
pub fn parsed(kind: &str, body: &str) -> Call {
    parse(kind, body, &CONTEXT).unwrap_or_else(|errors| panic!("{body}: {errors:?}"))
}

#[track_caller]
pub fn assert_faults(kind: &str, body: &str, faults: &[(&str, &str)]) {
    let errors = parse(kind, body, &CONTEXT).err().unwrap_or_default();
    let found: Vec<_> = errors.as_slice().iter().map(|error| (&*error.field, &*error.message)).collect();
    assert_eq!(found, faults, "{body}");
}

/// The simplest example of a kind, with every common field.
fn with_common(kind: &Kind) -> Value {
    let mut body = (kind.examples)().remove(0);
    every_common_field(&mut body);
    body
}

#[test]
fn every_kind_has_the_common_fields() {
    for kind in KINDS {
        let body = with_common(kind);
        let call = parsed(kind.name, &body.to_string());
        assert_eq!(call.common.to.as_ref().expect("a recipient").address.as_str(), "5511999998888");
        assert_eq!(call.common.reply_to.as_deref(), Some("3EB0459984FC15DDAB10A5"));
        assert_eq!((call.common.send_at, call.common.ttl_seconds), (Some(60_000), Some(60)));
        assert_eq!(call.common.reference.as_deref(), Some("pedido-4711"));
        assert!(call.features.contains(&(Feature::ReplyTo, "replyTo".to_owned())), "{:?}", call.features);
        for name in ["replyTo", "sendAt", "ttlSeconds", "reference"] {
            let mut body = body.clone();
            body[name] = Value::Null;
            let without = parsed(kind.name, &body.to_string());
            assert_ne!(without.fingerprint(1, None, true), call.fingerprint(1, None, true), "{} {name}", kind.name);
        }
    }
}

#[test]
fn errors_of_common_fields_come_before_those_of_the_kind() {
    let body = json!({
        "name": 1, "reference": "a b", "ttlSeconds": 29, "sendAt": "amanha", "replyTo": "a\nb", "to": "12", "phone": "5511988887777",
        "zzz": 1, "aaa": 2,
    });
    assert_faults(
        "contact",
        &body.to_string(),
        &[
            ("to", "O numero do destinatario deve estar no formato DDI+DDD+NUM."),
            ("replyTo", "O campo replyTo contem caracteres invalidos."),
            ("sendAt", "O campo sendAt deve ser uma data futura em RFC 3339."),
            ("ttlSeconds", "O campo ttlSeconds deve estar entre 30 e 2592000."),
            ("reference", "O campo reference contem caracteres invalidos."),
            ("name", "O campo name deve ser uma string."),
            ("zzz", "Campo desconhecido."),
            ("aaa", "Campo desconhecido."),
        ],
    );
}

#[test]
fn common_fields_have_limits() {
    let reference = |count: usize| json!("r".repeat(count));
    for (name, good) in [
        ("ttlSeconds", json!(30)),
        ("ttlSeconds", json!(2_592_000.0)),
        ("reference", reference(128)),
        ("reference", json!("ação-🎉")),
        ("reference", json!(" ")),
        ("sendAt", json!("")),
    ] {
        let mut body = (KINDS[0].examples)().remove(0);
        body[name] = good;
        parsed(KINDS[0].name, &body.to_string());
    }
    for (name, bad, message) in [
        ("ttlSeconds", json!(2_592_001), "O campo ttlSeconds deve estar entre 30 e 2592000."),
        ("ttlSeconds", json!(30.5), "O campo ttlSeconds deve ser um numero inteiro."),
        ("ttlSeconds", json!(29.5), "O campo ttlSeconds deve ser um numero inteiro."),
        ("ttlSeconds", json!("60"), "O campo ttlSeconds deve ser um numero."),
        ("reference", reference(129), "O campo reference deve ter no maximo 128 caracteres."),
        ("reference", json!("a\u{0}"), "O campo reference contem caracteres invalidos."),
        ("sendAt", json!(1), "O campo sendAt deve ser uma string."),
        ("replyTo", reference(256), "O campo replyTo deve ter no maximo 255 caracteres."),
    ] {
        let mut body = (KINDS[0].examples)().remove(0);
        body[name] = bad;
        assert_faults(KINDS[0].name, &body.to_string(), &[(name, message)]);
    }
}

#[test]
fn a_schedule_is_5_seconds_to_90_days_ahead() {
    let call = parsed("text", r#"{"to":"5511999998888","content":"x","sendAt":"2026-11-24T12:26:15.403Z"}"#);
    let at = CONTEXT.now;
    for (now, good) in
        [(at - 5_000, true), (at - 4_999, false), (at - 7_776_000_000, true), (at - 7_776_000_001, false), (at, false)]
    {
        assert_eq!(call.common.is_schedulable(now).is_ok(), good, "{now}");
        // Reported with all other errors if the call cannot be a repetition.
        let context = Context { now, may_repeat: false, ..CONTEXT };
        let body = r#"{"to":"5511999998888","content":"x","sendAt":"2026-11-24T12:26:15.403Z"}"#;
        assert_eq!(parse("text", body, &context).is_ok(), good, "{now}");
    }
}

#[test]
fn the_error_of_a_schedule_says_what_is_wrong_with_it() {
    let at = |now: i64| {
        let body = r#"{"to":"5511999998888","content":"x","sendAt":"2026-11-24T12:26:15.403Z"}"#;
        let context = Context { now: CONTEXT.now + now, may_repeat: false, ..CONTEXT };
        let errors = parse("text", body, &context).unwrap_err();
        errors.as_slice()[0].message.clone()
    };
    let range = "O campo sendAt deve estar entre 5 segundos e 90 dias no futuro.";
    assert_eq!(at(-4_999), range);
    assert_eq!(at(-7_776_000_001), range);
    assert_eq!(at(0), "O campo sendAt deve ser uma data futura em RFC 3339.");
}

#[test]
fn a_conversation_that_is_no_text_is_the_only_error() {
    let wrong = ("conversationId", "O campo conversationId deve ser uma string.");
    assert_faults("text", r#"{"conversationId":123,"content":"x"}"#, &[wrong]);
    let to = ("to", "O numero do destinatario deve estar no formato DDI+DDD+NUM.");
    assert_faults("text", r#"{"conversationId":123,"to":"12","content":"x"}"#, &[wrong, to]);
}

#[test]
fn unknown_fields_are_named_where_they_are_ignored() {
    let body = r#"{"a":1,"to":"5511999998888","contacts":[{"name":"M","x":1,"phones":[{"phone":"5511988887777","y":2}]}],"b":{}}"#;
    let context = Context { ignores_unknown: true, ..CONTEXT };
    let call = parse("contact", body, &context).expect("good");
    assert_eq!(call.ignored, ["a", "contacts[0].x", "contacts[0].phones[0].y", "b"]);
    let errors = parse("contact", body, &CONTEXT).unwrap_err();
    let fields: Vec<_> = errors.as_slice().iter().map(|error| &*error.field).collect();
    assert_eq!(fields, call.ignored);
}
