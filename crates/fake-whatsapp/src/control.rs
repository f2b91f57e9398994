//! The control port, for clients in other processes: POST a JSON object to a path, and get JSON back. It has the operations
//! of [`FakeWhatsApp`], without authentication.

use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, bail};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use base64ct::{Base64, Encoding as _};
use serde_json::{Value, json};

use crate::{Account, FakeWhatsApp, Received};

/// Every path, to be served on loopback.
pub fn router(whatsapp: Arc<FakeWhatsApp>) -> Router {
    Router::new().fallback(answer).with_state(whatsapp)
}

async fn answer(State(whatsapp): State<Arc<FakeWhatsApp>>, path: Uri, body: Bytes) -> Response {
    let asked = if body.is_empty() { Ok(json!({})) } else { serde_json::from_slice(&body).map_err(Into::into) };
    let (status, answer) = match asked.and_then(|asked| act(&whatsapp, path.path(), &asked)) {
        Ok(answer) => (StatusCode::OK, answer),
        Err(e) => (StatusCode::BAD_REQUEST, json!({ "error": format!("{e:#}") })),
    };
    (status, [(header::CONTENT_TYPE, "application/json")], answer.to_string()).into_response()
}

/// The network's address and keys.
pub fn info(whatsapp: &FakeWhatsApp) -> Value {
    json!({
        "url": whatsapp.url(),
        "certificate_root": Base64::encode_string(&whatsapp.certificate_root()),
        "noise_key": Base64::encode_string(&whatsapp.noise_key()),
    })
}

/// Accounts are `{"account", "lid", "device", "name"}`, of which `device` and `name` may be left out.
fn act(whatsapp: &FakeWhatsApp, path: &str, asked: &Value) -> Result<Value> {
    match path {
        "/info" => return Ok(info(whatsapp)),
        "/contact" => whatsapp.add_contact(text(asked, "phone")?, text(asked, "lid")?),
        "/remove_contact" => whatsapp.remove_contact(text(asked, "phone")?),
        "/alias" => whatsapp.add_alias(text(asked, "asked")?, text(asked, "canonical")?),
        "/scan" => whatsapp.scan(text(asked, "qr")?, &account(asked)?)?,
        "/type_code" => whatsapp.type_code(text(asked, "code")?, &account(asked)?)?,
        "/link_offline" => return link_offline(whatsapp, asked),
        "/say" => return say(whatsapp, asked),
        "/group" => {
            let members: Vec<String> = serde_json::from_value(asked["members"].clone())?;
            let members: Vec<&str> = members.iter().map(String::as_str).collect();
            let by_lid = asked["by_lid"].as_bool().unwrap_or(true);
            whatsapp.add_group(text(asked, "id")?, text(asked, "subject")?, &members, by_lid);
        }
        "/hold" => whatsapp.hold(text(asked, "account")?, asked["held"].as_bool().context("held is not a boolean")?),
        "/lose_files" => whatsapp.lose_files(),
        "/downloads" => return Ok(json!(whatsapp.downloads())),
        "/acknowledged" => return Ok(json!(whatsapp.acknowledged())),
        "/receipt" => {
            let receipt = serde_json::from_value(asked["receipt"].clone())?;
            whatsapp.receipt(text(asked, "account")?, &receipt);
        }
        "/faults" => return faults(whatsapp, asked),
        "/restrict" => whatsapp.restrict(asked["until"].as_i64()),
        "/drop_connections" => whatsapp.drop_connections(text(asked, "account")?),
        "/stream_error" => {
            let code = asked["code"].as_u64().and_then(|code| u16::try_from(code).ok());
            whatsapp.stream_error(text(asked, "account")?, code.context("code is not a number up to 65535")?);
        }
        "/replace" => whatsapp.replace(text(asked, "account")?),
        "/expel" => whatsapp.expel(text(asked, "account")?, text(asked, "conflict")?),
        "/log_out" => whatsapp.log_out(text(asked, "account")?),
        "/inbox" => return Ok(whatsapp.inbox().iter().map(received).collect()),
        "/counters" => return Ok(json!(whatsapp.counters())),
        "/lookups" => return Ok(json!(whatsapp.lookups())),
        "/typing" => return Ok(json!(whatsapp.typing())),
        "/state" => return Ok(state(whatsapp, text(asked, "account")?)),
        "/trace" => return Ok(json!(whatsapp.trace())),
        _ => bail!("no such path: {path}"),
    }
    Ok(json!({}))
}

fn text<'a>(asked: &'a Value, name: &str) -> Result<&'a str> {
    asked[name].as_str().with_context(|| format!("{name} is missing, or not a text"))
}

fn bytes(asked: &Value, name: &str) -> Result<Vec<u8>> {
    Base64::decode_vec(text(asked, name)?).map_err(|e| anyhow!("{name} is not Base64: {e}"))
}

fn account(asked: &Value) -> Result<Account> {
    let mut account = Account::new(text(asked, "account")?, text(asked, "lid")?);
    if let Some(device) = asked.get("device") {
        let device = device.as_u64().and_then(|device| u16::try_from(device).ok());
        account.device = device.context("device is not a number up to 65535")?;
    }
    if let Some(name) = asked["name"].as_str() {
        name.clone_into(&mut account.name);
    }
    Ok(account)
}

/// Links a device with these keys, and returns what the phone would have sent it.
fn link_offline(whatsapp: &FakeWhatsApp, asked: &Value) -> Result<Value> {
    let identity = bytes(asked, "identity")?.try_into().map_err(|_| anyhow!("identity is not 32 bytes"))?;
    let container = whatsapp.link_offline(&account(asked)?, &identity, &bytes(asked, "secret")?)?;
    Ok(json!({ "container": Base64::encode_string(&container) }))
}

/// A contact sends a text, or a card of `name` and `vcard`.
fn say(whatsapp: &FakeWhatsApp, asked: &Value) -> Result<Value> {
    let (contact, account) = (text(asked, "contact")?, text(asked, "account")?);
    let id = match asked.get("vcard") {
        Some(_) => whatsapp.say_card(contact, account, text(asked, "name")?, text(asked, "vcard")?)?,
        None => whatsapp.say(contact, account, text(asked, "text")?)?,
    };
    Ok(json!({ "id": id }))
}

/// Changes the named faults, and returns all.
fn faults(whatsapp: &FakeWhatsApp, asked: &Value) -> Result<Value> {
    let asked = asked.as_object().context("faults are an object")?;
    whatsapp.faults(|faults| {
        let mut all = json!(faults);
        for (name, value) in asked {
            all[name] = value.clone();
        }
        *faults = serde_json::from_value(all.clone())?;
        Ok(all)
    })
}

fn received(received: &Received) -> Value {
    let cards = received.cards();
    json!({
        "id": received.id,
        "from": received.from,
        "to": received.to,
        "text": received.text(),
        "location": received.location(),
        "display_name": received.display_name(),
        "vcard": received.vcard(),
        "cards": cards.iter().map(|card| json!({ "name": card.display_name, "vcard": card.vcard })).collect::<Value>(),
        "quote": received.quote().map(|quote| json!({ "id": quote.id, "from": quote.from })),
        "own_phone_saw_it": received.own_phone_saw_it,
    })
}

fn state(whatsapp: &FakeWhatsApp, account: &str) -> Value {
    json!({
        "online": whatsapp.is_online(account),
        "shown_online": whatsapp.shows_online(account),
        "unconfirmed": whatsapp.unconfirmed(account),
        "one_time_keys": whatsapp.one_time_keys(account),
    })
}
