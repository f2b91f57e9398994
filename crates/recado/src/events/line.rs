//! An event as a line for people.

use serde_json::Value;

use crate::output::cell;

/// The columns of names of events.
const NAME_WIDTH: usize = 22;
/// Most characters of a message's text.
const TEXT: usize = 60;

/// The time, the name, the channel, and what the event is about.
pub fn of(event: &Value) -> String {
    let (at, name, channel) = (cell(&event["createdAt"]), cell(&event["event"]), cell(&event["channelId"]));
    let about: Vec<String> = about(&event["data"]).into_iter().filter(|part| !part.is_empty()).collect();
    format!("{at}  {name:NAME_WIDTH$}  {channel}  {}", about.join("  ")).trim_end().to_owned()
}

fn about(data: &Value) -> Vec<String> {
    // An absent value is left out.
    let text = |value: &Value| if value.is_null() { String::new() } else { cell(value) };
    let message = &data["message"];
    if message.is_object() {
        let content: String = text(&message["content"]).chars().take(TEXT).collect();
        return vec![text(&message["id"]), text(&message["type"]), text(&message["from"]), content];
    }
    if data["messageId"].is_string() {
        let to = [&data["to"], &data["from"]].into_iter().find(|value| !value.is_null()).unwrap_or(&Value::Null);
        return vec![text(&data["messageId"]), text(to), text(&data["error"]["code"]), text(&data["emoji"])];
    }
    let channel = &data["channel"];
    if channel.is_object() {
        return vec![text(&channel["state"]), text(&channel["stateReason"])];
    }
    ["conversation", "contact", "webhook", "template", "batch"].iter().map(|part| text(&data[*part]["id"])).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_says_what_an_event_is_about() {
        let of = |name: &str, data: Value| {
            of(&json!({"createdAt": "T", "event": name, "channelId": "vendas", "data": data}))
        };
        let failed = json!({"messageId": "m", "to": "5511999998888", "error": {"code": "131026"}});
        assert_eq!(of("message.failed", failed), "T  message.failed          vendas  m  5511999998888  131026");
        let received = json!({"message": {"id": "m", "type": "text", "from": null, "content": "a\nb\u{202e}"}});
        assert_eq!(of("message.received", received), "T  message.received        vendas  m  text  a\u{fffd}b\u{fffd}");
        let channel = json!({"channel": {"state": "PAUSED", "stateReason": null}});
        assert_eq!(of("channel.paused", channel), "T  channel.paused          vendas  PAUSED");
        assert_eq!(of("contact.created", json!({"contact": {"id": "c"}})), "T  contact.created         vendas  c");
        assert_eq!(of("later.event", Value::Null), "T  later.event             vendas");
    }
}
