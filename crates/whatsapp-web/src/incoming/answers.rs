//! Answers to messages with choices: buttons, lists and forms; orders and products.

use recado_domain::incoming::{
    CONTENT_LIMIT, Choice, ChoiceKind, Content, MatchedBy, NewIncoming, Order, OrderItem, clean, truncate,
};
use serde_json::Value;
use wa::message::buttons_response_message::Response;
use wa::message::interactive_response_message::InteractiveResponseMessage as Flow;
use whatsapp_rust::waproto::whatsapp as wa;

/// The most characters of an id or a title.
const LIMIT: usize = 1_024;
/// The most bytes of the answers of a form.
const DATA_LIMIT: usize = 64 << 10;

type Texts = (Option<String>, Option<String>, Option<String>);

/// The answer, the order or the product of a message.
pub fn read(message: &wa::Message) -> Option<NewIncoming> {
    answer(message).or_else(|| form(message)).or_else(|| order(message)).or_else(|| product(message))
}

/// A text that callers compare, so nothing but NUL is changed in it.
fn short(text: Option<&String>) -> Option<String> {
    text.map(|text| truncate(text, LIMIT).0).filter(|text| !text.is_empty())
}

fn answer(message: &wa::Message) -> Option<NewIncoming> {
    if let Some(reply) = message.buttons_response_message.as_option() {
        let title = short(reply.response.as_ref().map(|Response::SelectedDisplayText(title)| title));
        let texts = (short(reply.selected_button_id.as_ref()), title, None);
        return Some(chosen(reply.context_info.as_option(), texts, Some(ChoiceKind::Button), None));
    }
    if let Some(reply) = message.list_response_message.as_option() {
        let row = reply.single_select_reply.as_option().and_then(|row| row.selected_row_id.as_ref());
        let texts = (short(row), short(reply.title.as_ref()), short(reply.description.as_ref()));
        return Some(chosen(reply.context_info.as_option(), texts, Some(ChoiceKind::List), None));
    }
    let reply = message.template_button_reply_message.as_option()?;
    let texts = (short(reply.selected_id.as_ref()), short(reply.selected_display_text.as_ref()), None);
    Some(chosen(reply.context_info.as_option(), texts, Some(ChoiceKind::Template), None))
}

fn chosen(
    context: Option<&wa::ContextInfo>,
    (id, title, description): Texts,
    kind: Option<ChoiceKind>,
    data: Option<Value>,
) -> NewIncoming {
    let network_id = context.and_then(|context| context.stanza_id.clone());
    let choice = kind.map(|kind| Choice {
        message_id: None,
        network_id,
        id: id.clone(),
        title: title.clone(),
        kind,
        matched_by: MatchedBy::Network,
    });
    let text = title.clone().unwrap_or_default();
    NewIncoming { choice, ..NewIncoming::new(Content::Button { id, title, description, data }, text) }
}

/// The answer to an interactive message: a button, an entry of a list, or a form.
fn form(message: &wa::Message) -> Option<NewIncoming> {
    let reply = message.interactive_response_message.as_option()?;
    let title = reply.body.as_option().and_then(|body| short(body.text.as_ref()));
    let flow = reply.interactive_response_message.as_ref().map(|Flow::NativeFlowResponseMessage(flow)| flow);
    let name = flow.and_then(|flow| flow.name.as_deref());
    let data = flow.and_then(|flow| flow.params_json.as_deref()).map(data);
    let of_data = |key: &str| data.as_ref().and_then(|data| short(data.get(key)?.as_str().map(str::to_owned).as_ref()));
    let kind = match name {
        Some("quick_reply") => Some(ChoiceKind::Button),
        Some("single_select" | "menu_options") => Some(ChoiceKind::List),
        Some("template_button_reply") => Some(ChoiceKind::Template),
        _ => None,
    };
    let id = of_data("id").or_else(|| short(name.map(str::to_owned).as_ref()).filter(|_| kind.is_none()));
    let texts = (id, title.or_else(|| of_data("title")), of_data("description"));
    // A tap on a button has nothing but its id.
    let data = data.filter(|_| kind.is_none());
    Some(chosen(reply.context_info.as_option(), texts, kind, data))
}

/// The answers of a form: JSON in a text. What is no JSON stays a text.
fn data(text: &str) -> Value {
    // A database cannot hold NUL.
    let is_plain = text.len() <= DATA_LIMIT && !text.contains("\\u0000") && !text.contains('\0');
    let parsed = is_plain.then(|| serde_json::from_str(text).ok()).flatten();
    parsed.unwrap_or_else(|| Value::String(truncate(text, DATA_LIMIT).0))
}

fn order(message: &wa::Message) -> Option<NewIncoming> {
    let order = message.order_message.as_option()?;
    let text = order.message.as_ref().map(|text| truncate(text, CONTENT_LIMIT).0).filter(|text| !text.is_empty());
    let title = || order.order_title.as_deref().and_then(|title| clean(title, LIMIT));
    let shown = text.clone().or_else(title).unwrap_or_default();
    // The products are at the network, by the order's id.
    let content = Content::Order(Order { order_id: short(order.order_id.as_ref()), text, ..Order::default() });
    Some(NewIncoming::new(content, shown))
}

fn product(message: &wa::Message) -> Option<NewIncoming> {
    let asked = message.product_message.as_option()?;
    let product = asked.product.as_option();
    let text = asked.body.as_ref().map(|text| truncate(text, CONTENT_LIMIT).0).filter(|text| !text.is_empty());
    let item = product.map(|product| OrderItem {
        product_id: short(product.retailer_id.as_ref()).or_else(|| short(product.product_id.as_ref())),
        name: product.title.as_deref().and_then(|title| clean(title, LIMIT)),
        quantity: None,
        price: product.price_amount1000.map(thousandths),
        currency: product.currency_code.as_deref().and_then(|code| clean(code, 16)),
    });
    let name = item.as_ref().and_then(|item| item.name.clone());
    let shown = text.clone().or(name).unwrap_or_default();
    let content = Content::Order(Order { text, items: item.into_iter().collect(), ..Order::default() });
    Some(NewIncoming::new(content, shown))
}

/// An amount in thousandths, as people write it: without zeros at the end.
fn thousandths(amount: i64) -> String {
    let (whole, rest) = (amount / 1_000, (amount % 1_000).unsigned_abs());
    let sign = if amount < 0 && whole == 0 { "-" } else { "" };
    let text = format!("{sign}{whole}.{rest:03}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
