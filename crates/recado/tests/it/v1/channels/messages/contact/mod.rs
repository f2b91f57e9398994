//! `POST /v1/channels/{channelId}/messages/contact`: the contact call, row by row of its contract.

mod accepted;
mod bodies;
mod fields;
mod headers;
mod idempotency;
mod life;
mod limits;
mod order;
mod phones;
mod routing;
mod scenarios;
mod texts;

use super::super::super::Stage;

/// The fields of a valid body, each as JSON text.
const GOOD: [(&str, &str); 3] =
    [("to", r#""5511999998888""#), ("name", r#""Maria Silva""#), ("phone", r#""5511988887777""#)];

/// A valid body with this JSON text for one field.
fn body_with(field: &str, json: &str) -> String {
    let others = GOOD.iter().filter(|(name, _)| *name != field).map(|(name, value)| format!(r#""{name}":{value}"#));
    format!("{{{},\"{field}\":{json}}}", others.collect::<Vec<_>>().join(","))
}

/// A valid body without one of its fields.
fn body_without(field: &str) -> String {
    let others = GOOD.iter().filter(|(name, _)| *name != field).map(|(name, value)| format!(r#""{name}":{value}"#));
    format!("{{{}}}", others.collect::<Vec<_>>().join(","))
}

/// Refused calls store nothing: the channel has exactly this many messages.
#[track_caller]
fn assert_stored(stage: &Stage, channel: &str, count: usize) {
    let rows = stage.rows(&format!("/v1/channels/{channel}/messages?limit=100"));
    assert_eq!(rows.len(), count, "messages on {channel}: {rows:?}");
}
