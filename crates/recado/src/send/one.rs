//! One message.

use anyhow::{Context, Result};
use recado_domain::ids::MessageId;
use recado_gateway::control::AskError;
use serde_json::json;

use crate::api::Api;
use crate::exit::Failure;
use crate::messages::{check_served, show, watch_message};
use crate::send::{Command, request};
use crate::{Exit, output, unique_name};

pub async fn send(command: &Command) -> Result<Exit> {
    let api = Api::open(&command.options.place.target, Some(&command.options.place.channel)).await?;
    let done = send_by(&api, command).await;
    api.close().await;
    done
}

async fn send_by(api: &Api, command: &Command) -> Result<Exit> {
    if command.options.wait {
        check_served(api)?;
    }
    let key = command.options.idempotency_key.clone().unwrap_or_else(unique_name);
    let fields = command.fields.iter().map(|(field, text)| (*field, text.as_str()));
    let channel = &command.options.place.channel;
    let mut request = request(command.kind, channel, fields, &key, command.options.scenario.as_deref());
    request.headers.push(("prefer".to_owned(), "return=representation".to_owned()));
    let repeat = format!("to repeat safely: --idempotency-key {key}");
    let mut answer = api.ask(request).await.map_err(|error| match error {
        // Without the key, the same command would send another message, so this exit code must not suggest a retry.
        AskError::NoAnswer(_) => Failure {
            exit: if command.options.idempotency_key.is_some() { Exit::Unavailable } else { Exit::Failed },
            text: format!("whether it was accepted is not known; {repeat}: {error}"),
        }
        .into(),
        error => anyhow::Error::from(error),
    })?;
    let mut message = answer["data"].take();
    let id = message["id"].as_str().and_then(|id| id.parse::<MessageId>().ok());
    let id = id.with_context(|| format!("the answer names no message; {repeat}"))?.to_string();
    let output = &command.options.place.output;
    if !command.options.wait {
        let short = json!({ "id": id, "status": message["status"] });
        output::show(output, if output.json { &message } else { &short })?;
        return Ok(Exit::Done);
    }
    // A program gets one object: the message in its final state.
    let printed = (!output.json).then_some(output);
    if printed.is_some() {
        output::line(&id)?;
    }
    let ended = watch_message(api, &command.options.place.channel, &id, printed, &mut message).await;
    let printed = if output.json { show(output, &message) } else { Ok(()) };
    match ended {
        Ok(exit) => exit.after(printed),
        // Not the code of a missing answer: the same command would send the message again.
        Err(error) if error.is::<AskError>() => {
            let text = format!("it was accepted as {id}, and what became of it is not known; {repeat}: {error:#}");
            Err(Failure { exit: Exit::Failed, text }.into())
        }
        Err(error) => Err(error),
    }
}
