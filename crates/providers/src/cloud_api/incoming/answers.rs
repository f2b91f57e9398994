//! Answers to messages with choices: buttons, lists and forms; and orders from a catalog.

use recado_domain::incoming::{
    CONTENT_LIMIT, Choice, ChoiceKind, Content, MatchedBy, NewIncoming, Order, OrderItem, clean, truncate,
};
use serde_json::Value;

use crate::cloud_api::incoming::content;
use crate::cloud_api::lenient::Object;

/// The most characters of an id or of a payload. Meta's limits are 256, and 128 for templates.
const ID_LIMIT: usize = 1_024;
/// The most bytes of the answers of a form.
const DATA_LIMIT: usize = 64 << 10;
/// The most products of an order.
const ITEMS: usize = 300;

/// A tap on a button of a template.
pub(super) fn button(message: &Object<'_>) -> Option<NewIncoming> {
    let button = message.object("button")?;
    let (id, title) = (short(&button, "payload"), short(&button, "text"));
    if id.is_none() && title.is_none() {
        return None;
    }
    Some(chosen(message, (id, title, None), Some(ChoiceKind::Template), None))
}

/// A tap on a button, a choice from a list, or a completed form.
pub(super) fn interactive(message: &Object<'_>) -> Option<NewIncoming> {
    let interactive = message.object("interactive")?;
    let kind = interactive.text("type")?;
    let reply = interactive.object(&kind)?;
    let texts = (short(&reply, "id"), short(&reply, "title"), short(&reply, "description"));
    Some(match &*kind {
        "button_reply" => chosen(message, texts, Some(ChoiceKind::Button), None),
        "list_reply" => chosen(message, texts, Some(ChoiceKind::List), None),
        "nfm_reply" => {
            let texts = (short(&reply, "name"), short(&reply, "body"), None);
            chosen(message, texts, None, data(&reply))
        }
        _ => return None,
    })
}

/// Whether it is an answer of a kind that Meta added later.
pub(super) fn is_unknown(message: &Object<'_>) -> bool {
    let kind = message.object("interactive").and_then(|interactive| interactive.text("type"));
    kind.is_some_and(|kind| !["button_reply", "list_reply", "nfm_reply"].contains(&&*kind))
}

type Texts = (Option<String>, Option<String>, Option<String>);

fn chosen(
    message: &Object<'_>,
    (id, title, description): Texts,
    kind: Option<ChoiceKind>,
    data: Option<Value>,
) -> NewIncoming {
    let context = message.object("context");
    let target = context.and_then(|context| context.text("id")?.parse().ok());
    let target = target.map(|id: recado_domain::ids::NetworkId| id.as_str().to_owned());
    let choice = kind.map(|kind| Choice {
        message_id: None,
        network_id: target,
        id: id.clone(),
        title: title.clone(),
        kind,
        matched_by: MatchedBy::Network,
    });
    let text = title.clone().unwrap_or_default();
    NewIncoming { choice, ..NewIncoming::new(Content::Button { id, title, description, data }, text) }
}

/// The answers of a form, which Meta sends as JSON in a text. A text that is not JSON stays a text.
fn data(reply: &Object<'_>) -> Option<Value> {
    let text = reply.text("response_json")?;
    let parsed: Option<Box<serde_json::value::RawValue>> =
        (text.len() <= DATA_LIMIT).then(|| serde_json::from_str(&text).ok()).flatten();
    let parsed = parsed.and_then(|raw| content::plain(&raw));
    Some(parsed.unwrap_or_else(|| Value::String(truncate(&text, DATA_LIMIT).0)))
}

/// An order: products, quantities and prices.
pub(super) fn order(message: &Object<'_>) -> Option<NewIncoming> {
    let order = message.object("order")?;
    order.raw("product_items")?;
    let items = order.objects("product_items", ITEMS);
    let item = |item: &Object<'_>| OrderItem {
        product_id: short(item, "product_retailer_id"),
        name: short(item, "name"),
        quantity: item.value("quantity"),
        // The digits are kept as Meta writes them, because a binary number would change them.
        price: item.raw("item_price").and_then(|raw| clean(raw.get().trim_matches('"'), 64)),
        currency: item.text("currency").and_then(|text| clean(&text, 16)),
    };
    let text = order.filled("text").map(|text| truncate(&text, CONTENT_LIMIT).0);
    let content = Content::Order(Order {
        order_id: None,
        catalog_id: short(&order, "catalog_id"),
        text: text.clone(),
        items: items.iter().map(item).collect(),
    });
    Some(NewIncoming::new(content, text.unwrap_or_default()))
}

/// A text that callers compare, so only NUL is removed.
fn short(object: &Object<'_>, key: &str) -> Option<String> {
    object.filled(key).map(|text| truncate(&text, ID_LIMIT).0).filter(|text| !text.is_empty())
}
