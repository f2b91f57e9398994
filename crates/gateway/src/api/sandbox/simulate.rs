//! `POST /v1/sandbox/simulate/incoming`: a person does something on the simulated network.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use recado_domain::api_key::Scope;
use recado_domain::channel::ChannelKey;
use recado_domain::event::Owner;
use recado_domain::ids::{ConversationId, MessageId, SANDBOX};
use recado_domain::incoming::{Content, Group, Incoming, MediaState, Outcome, Received};
use recado_domain::kinds::Context;
use recado_domain::simulation::{
    Act, EXAMPLE, EXPIRED, NO_MEDIA, OF_MEDIA, Simulated, SimulatedGroup, Simulation, body_schema,
};
use recado_domain::transient::{Transient, TransientState, Typing};
use recado_providers::sandbox::SimulatedAct;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use crate::api::auth::{Caller, scope};
use crate::api::error::ApiError;
use crate::api::json::{self, JsonBody};
use crate::api::openapi::{Operation, schemas};
use crate::config::UnknownFields;
use crate::directory::ChannelEntry;
use crate::gateway::Gateway;
use crate::operations::channels;

/// Simulates what a person does. It runs through the same code as what a real network delivers.
pub async fn simulate(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::SandboxWrite>,
    body: JsonBody,
) -> Result<Response, ApiError> {
    caller.sandbox_only()?;
    let context = Context {
        country: gateway.country(caller.institution),
        now: gateway.clock.now(),
        ignores_unknown: gateway.behaviour.unknown_fields == UnknownFields::Ignore,
        may_repeat: false,
    };
    let mut call = Simulation::parse(&body.object()?, &context)?;
    put_media(&gateway, (caller.institution, caller.environment), &mut call.act).await?;
    check_file(&gateway, &call.act)?;
    let channel = call.channel.as_ref().map_or(SANDBOX, |id| id.as_str());
    // A test key has no channels but those of the sandbox.
    let entry = caller.channel(&gateway, channel)?;
    let stored = channels::get(&gateway, &entry).await?;
    if !stored.state.accepts(stored.connected_at.is_some()) {
        return Err(ApiError::ChannelNotConnected);
    }
    if let Act::Typing { state } = call.act {
        return Ok(json::answer(StatusCode::ACCEPTED, &typing(&gateway, &entry, call, state)));
    }
    let target = target(&gateway, entry.via.key, &call).await?;
    let ids = gateway.new_ids();
    let simulated = Simulated {
        network_id: ids.network(),
        group: call.group.as_deref().map(SimulatedGroup::named),
        person: call.person,
        sent_at: call.sent_at.unwrap_or(context.now),
        target,
        act: call.act,
    };
    let network_id = simulated.network_id.clone();
    let act = SimulatedAct {
        via: &entry.via,
        id: format!("msg_sandbox_{}", ids.message()),
        simulated,
        repeat: call.repeat,
        is_held: call.out_of_order,
        windowed: call.windowed,
    };
    let received = gateway.drivers.sandbox().simulate(act, &*gateway.store).await?;
    Ok(json::answer(StatusCode::ACCEPTED, &Answer::new(network_id, received)))
}

/// Passes to open streams that the person types.
fn typing(gateway: &Gateway, entry: &ChannelEntry, call: Simulation, state: Typing) -> Answer {
    let group = call.group.as_deref().map(SimulatedGroup::named);
    let transient = Transient {
        channel: entry.via.key,
        group: group.map(|group| Group { address: group.address, name: group.name }),
        person: call.person,
        state: TransientState::Typing(state),
        at: gateway.clock.now(),
    };
    let is_passed = gateway.transients.publish((entry.via.institution, entry.environment), transient);
    let outcome = if is_passed { "STREAMED" } else { "IGNORED" };
    Answer::of(Ids { message_id: None, network_id: None, conversation_id: None, outcome })
}

/// Puts the received file in the place of its id.
async fn put_media(gateway: &Gateway, owner: Owner, act: &mut Act) -> Result<(), ApiError> {
    let Act::Say { media: Some(media), .. } = act else { return Ok(()) };
    let given = media.remote_id.clone().unwrap_or_default();
    let place = given.strip_prefix(EXPIRED).unwrap_or(&given);
    let Some(id) = place.strip_prefix(OF_MEDIA) else { return Ok(()) };
    let missing = || ApiError::field("content.mediaId", NO_MEDIA);
    let found = gateway.store.media(owner, id.parse().map_err(|_| missing())?).await?;
    let found = found.filter(|found| found.state != MediaState::Gone).map(|found| found.about).ok_or_else(missing)?;
    let url = found.remote_id.filter(|url| !url.starts_with(EXPIRED)).ok_or_else(missing)?;
    media.remote_id = Some(if place.len() < given.len() { format!("{EXPIRED}{url}") } else { url });
    media.file_name = media.file_name.take().or(found.file_name);
    if media.mime_type.is_empty() {
        media.mime_type = found.mime_type;
    }
    Ok(())
}

/// Refuses a file that could never be fetched.
fn check_file(gateway: &Gateway, act: &Act) -> Result<(), ApiError> {
    let Act::Say { media: Some(media), .. } = act else { return Ok(()) };
    let Some(url) = &media.remote_id else { return Ok(()) };
    let sandbox = gateway.drivers.sandbox();
    // A file that the network has lost is never fetched.
    if url.starts_with(EXPIRED) || sandbox.may_fetch(url) {
        return Ok(());
    }
    // Without TLS a name leads only to what the operator allows.
    let over_tls = url.strip_prefix("http:").is_some_and(|rest| sandbox.may_fetch(&format!("https:{rest}")));
    Err(ApiError::field("content.url", if over_tls { NOT_HTTPS } else { NOT_PUBLIC }))
}

/// The network id of the message that the act is about. A vote is refused if Recado knows that the message is no poll.
async fn target(gateway: &Gateway, channel: ChannelKey, call: &Simulation) -> Result<Option<String>, ApiError> {
    let Some(target) = &call.target else { return Ok(None) };
    let votes = matches!(call.act, Act::Vote { .. });
    let is_poll = |message: &Incoming| matches!(message.body.content, Content::Poll { .. });
    let no_poll = || ApiError::field(target.field, NO_POLL);
    let Ok(id) = target.name.parse::<MessageId>() else {
        // People may choose the same id. A vote of a message that is not here waits for it.
        let named =
            if votes { gateway.store.incoming_of_network(channel, target.name.clone()).await? } else { Vec::new() };
        let can_be_one = named.is_empty() || named.iter().any(is_poll);
        return if can_be_one { Ok(Some(target.name.clone())) } else { Err(no_poll()) };
    };
    if let Some(sent) = gateway.store.message(channel, id).await? {
        // No call sends a poll.
        return if votes { Err(no_poll()) } else { Ok(Some(sent.remote_id.unwrap_or(sent.network_id))) };
    }
    let received = gateway.store.incoming(channel, id).await?.ok_or(ApiError::MessageNotFound)?;
    if votes && !is_poll(&received) { Err(no_poll()) } else { Ok(Some(received.network_id)) }
}

/// The answer.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct Answer {
    #[schemars(extend("const" = true))]
    success: bool,
    /// A text for people, in Portuguese.
    message: &'static str,
    data: Ids,
}

/// The ids of what was simulated.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "SimulatedIds")]
struct Ids {
    /// The message that was stored or changed; `null` if there is none yet.
    #[schemars(with = "Option<schemas::Uuid>")]
    message_id: Option<MessageId>,
    /// `null` for `typing`, which nothing stores.
    #[schemars(with = "Option<schemas::NetworkId>")]
    network_id: Option<String>,
    /// `null` if there is none yet.
    #[schemars(with = "Option<schemas::Uuid>")]
    conversation_id: Option<ConversationId>,
    /// `STORED`: a message. `CHANGED`: a message, or what is known of the person. `REPEATED`: it arrived before. `HELD`: by
    /// `outOfOrder`, or until the message arrives that it changes. `IGNORED`: the state is the same, or newer, or this person
    /// may not change the message, or no stream is open. `STREAMED`: sent on open streams.
    #[schemars(extend("enum" = ["STORED", "CHANGED", "REPEATED", "HELD", "IGNORED", "STREAMED"]))]
    outcome: &'static str,
}

impl Answer {
    fn new(network_id: String, received: Option<Received>) -> Self {
        let (message_id, conversation_id) = received.map_or((None, None), |one| (one.message, one.conversation));
        let outcome = match received.map(|one| one.outcome) {
            Some(Outcome::Stored | Outcome::Recovered) => "STORED",
            Some(Outcome::Applied) => "CHANGED",
            Some(Outcome::Repeated) => "REPEATED",
            Some(Outcome::Held) | None => "HELD",
            Some(Outcome::Ignored(_)) => "IGNORED",
        };
        Self::of(Ids { message_id, network_id: Some(network_id), conversation_id, outcome })
    }

    fn of(data: Ids) -> Self {
        Self { success: true, message: SIMULATED, data }
    }
}

const NOT_HTTPS: &str = "O campo content.url deve ser uma URL https.";
const NOT_PUBLIC: &str = "O campo content.url deve ser uma URL publica http ou https.";
const NO_POLL: &str = "O campo content.messageId deve ser o id de uma enquete.";
const SIMULATED: &str = "Mensagem simulada.";

/// The operation in the OpenAPI document.
pub fn describe(operation: Operation<'_>) -> Operation<'_> {
    let example: Value = serde_json::from_str(EXAMPLE).unwrap_or_default();
    let ids = json!({
        "messageId": "01a2085f-07eb-7913-a5da-c9ff5fe6d655", "networkId": "3EB0459984FC15DDAB10A5",
        "conversationId": "01a2085f-0b11-7a02-8e00-6a1c0d7a2f10", "outcome": "STORED",
    });
    operation
        .named("Sandbox", "simulateIncoming", "Simulate what a person does")
        .about(
            "A message, or a change of one, arrives as from a real network. `repeat` delivers it several times, \
             `outOfOrder` holds it until the next one was delivered, `windowed` gives the channel a service window from \
             now on, and an earlier `sentAt` makes it late; a later time than now counts as now, and one before 2009 as the \
             first of 2009. `replyTo` and `content.messageId` are the id of a message or \
             its network id. The URL of a file follows the rules of a webhook's `url`. A channel that was never \
             connected receives nothing (409).",
        )
        .needs(Scope::SandboxWrite)
        .body("Simulation", body_schema(), example)
        .answers::<Answer>(202, "It has arrived, or is held.", json!({"success": true, "message": SIMULATED, "data": ids}))
        .refuses([
            ApiError::field("type", "O campo type e obrigatorio."),
            ApiError::field("content.url", NOT_PUBLIC),
            ApiError::field("content.messageId", NO_POLL),
            ApiError::field("content.mediaId", NO_MEDIA),
            ApiError::ChannelNotFound,
            ApiError::ChannelNotConnected,
            ApiError::MessageNotFound,
            ApiError::Unavailable,
        ])
}
