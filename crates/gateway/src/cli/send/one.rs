//! One card.

use anyhow::{Context, Result};
use serde_json::json;

use super::{Contact, request};
use crate::cli::api::{Api, Request, encoded, messages_path};
use crate::cli::messages::{Until, show, watch_message};
use crate::cli::{Exit, output};
use crate::clock::{SystemEntropy, random};
use crate::control::AskError;

pub async fn send(contact: &Contact) -> Result<Exit> {
    let api = Api::open(&contact.place.target, Some(&contact.place.channel)).await?;
    let done = send_by(&api, contact).await;
    api.close().await;
    done
}

async fn send_by(api: &Api, contact: &Contact) -> Result<Exit> {
    let made_up = || format!("{:032x}", u128::from_be_bytes(random(&SystemEntropy)));
    let key = contact.idempotency_key.clone().unwrap_or_else(made_up);
    let Contact { to, name, phone, email, organization, scenario, .. } = contact;
    let fields = [to, name, phone, email, organization].map(|field| field.as_deref());
    let mut request = request(&contact.place.channel, fields, &key, scenario.as_deref());
    request.headers.push(("prefer".to_owned(), "return=representation".to_owned()));
    let answer = api.ask(request).await.map_err(|error| {
        let unknown = matches!(error, AskError::NoAnswer(_) | AskError::Unavailable(_));
        let error = anyhow::Error::from(error);
        if unknown {
            error.context(format!("whether it was accepted is not known; to repeat safely: --idempotency-key {key}"))
        } else {
            error
        }
    })?;
    let message = &answer["data"];
    let id = message["id"].as_str().context("the answer names no message")?;
    if !contact.wait {
        let short = json!({ "id": id, "status": message["status"] });
        output::show(&contact.place.output, if contact.place.output.json { message } else { &short })?;
        return Ok(Exit::Done);
    }
    let output = &contact.place.output;
    // A program gets one object: the message as it is in the end.
    if output.json {
        let exit = watch_message(api, &contact.place.channel, id, Until::Fate, None).await?;
        let path = messages_path(&contact.place.channel, &format!("/{}", encoded(id)));
        show(output, &api.ask(Request::get(path)).await?["data"])?;
        return Ok(exit);
    }
    output::line(id)?;
    watch_message(api, &contact.place.channel, id, Until::Fate, Some(output)).await
}
