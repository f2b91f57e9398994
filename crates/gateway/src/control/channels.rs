//! Commands on channels.

use std::sync::Arc;

use recado_domain::api_key::Environment;
use recado_domain::channel::types::FieldText;
use recado_domain::channel::{Actor, ChannelType};
use recado_domain::field_errors::{Field, FieldErrors};
use recado_domain::ids::InstitutionId;
use recado_domain::phone::{BAD_PHONE, PhoneNumber};
use recado_providers::Given;
use serde_json::{Value, json};

use super::lists::Lists;
use super::{Command, Credentials, WhichChannel, as_value, institutions};
use crate::api::channels::ChannelView;
use crate::api::channels::connect::ConnectedView;
use crate::api::channels::pairing::PairingView;
use crate::api::error::ApiError;
use crate::directory::ChannelEntry;
use crate::gateway::Gateway;
use crate::operations::channels::{self, CreateChannel};

/// Rows of one page of a listing.
const PAGE: usize = 500;

/// The commands on channels. Others are an error.
pub(super) async fn manage(gateway: &Gateway, command: Command) -> Result<Value, ApiError> {
    match command {
        Command::CreateChannel { institution, environment, name, kind, id } => {
            let institution = institutions::find_id(gateway, institution.as_deref()).await?;
            let settings = serde_json::Map::new();
            let request = CreateChannel { name: Some(name), kind: Some(kind), id, settings };
            let made =
                channels::create(gateway, institution, environment, request, Actor::Operator, FieldErrors::default())
                    .await?;
            as_value(ChannelView::from(made))
        }
        Command::ListChannels { institution } => {
            let mut lists = Lists::default();
            for one in institutions::listed(gateway, institution.as_deref()).await? {
                lists.add(one.id, all_channels(gateway, one.id).await?.into_iter())?;
            }
            Ok(lists.joined())
        }
        Command::ShowChannel { which } => {
            let entry = find_channel(gateway, &which).await?;
            as_value(ChannelView::from(channels::as_seen(gateway, channels::get(gateway, &entry).await?)))
        }
        Command::ConnectChannel { which, given: Credentials(given) } => {
            let entry = find_channel(gateway, &which).await?;
            connect(gateway, &entry, &given).await
        }
        Command::ShowPairing { which } => {
            let entry = find_channel(gateway, &which).await?;
            let pairing = gateway.drivers.get(entry.kind)?.follow(entry.via.key).borrow().clone();
            as_value(PairingView::from(pairing))
        }
        Command::ActOnChannel { which, action } => {
            let entry = find_channel(gateway, &which).await?;
            as_value(ChannelView::from(channels::act(gateway, &entry, action, Actor::Operator).await?))
        }
        Command::UpdateChannel { which, change } => {
            let entry = find_channel(gateway, &which).await?;
            as_value(ChannelView::from(channels::update(gateway, &entry, change, FieldErrors::default()).await?))
        }
        Command::DeleteChannel { which } => {
            let entry = find_channel(gateway, &which).await?;
            channels::delete(gateway, &entry, Actor::Operator).await?;
            Ok(json!({ "id": entry.via.id, "deleted": true }))
        }
        _ => Err(ApiError::Internal),
    }
}

/// Connects a channel with these fields.
async fn connect(gateway: &Gateway, entry: &ChannelEntry, given: &[(String, String)]) -> Result<Value, ApiError> {
    let known = entry.kind.descriptor().connect;
    let mut fields = Vec::new();
    for (name, value) in given {
        let Some(field) = known.iter().find(|field| field.name == name) else {
            return Err(unknown_field(gateway, entry, (name, value)));
        };
        fields.push((field.name, Field::from(value.as_str())));
    }
    let given = Given { fields, ..Given::default() };
    let (channel, pairing) = channels::connect(gateway, entry, given, Actor::Operator).await?;
    as_value(ConnectedView::new(channel, pairing))
}

/// The error of a field that connects channels of another type.
fn unknown_field(gateway: &Gateway, entry: &ChannelEntry, (name, value): (&str, &str)) -> ApiError {
    let mut all = ChannelType::ALL.into_iter().flat_map(|kind| kind.descriptor().connect);
    if !all.any(|field| field.name == name && field.text == FieldText::Phone) {
        return ApiError::field("type", "channels of this type need no credentials");
    }
    let phone = PhoneNumber::parse(value.trim(), gateway.country(entry.via.institution));
    let not_linked = |_| "channels of this type are not linked by a phone";
    ApiError::field("phone", phone.map_or_else(|fault| fault.text(BAD_PHONE), not_linked))
}

async fn all_channels(gateway: &Gateway, institution: InstitutionId) -> Result<Vec<ChannelView>, ApiError> {
    let mut views = Vec::new();
    for environment in [Environment::Test, Environment::Live] {
        let mut after = 0;
        loop {
            let page = gateway.store.channels_of((institution, environment), after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = last.key;
            views.extend(page.into_iter().map(|channel| ChannelView::from(channels::as_seen(gateway, channel))));
        }
    }
    Ok(views)
}

async fn find_channel(gateway: &Gateway, which: &WhichChannel) -> Result<Arc<ChannelEntry>, ApiError> {
    let institution = institutions::find_id(gateway, which.institution.as_deref()).await?;
    let environments = [Environment::Test, Environment::Live].into_iter();
    let wanted = environments.filter(|environment| which.environment.is_none_or(|wanted| wanted == *environment));
    let mut found = wanted.filter_map(|environment| {
        gateway.directory.find(institution, environment, &which.id).filter(|entry| !entry.is_deleted())
    });
    match (found.next(), found.next()) {
        (None, _) => Err(ApiError::ChannelNotFound),
        (Some(entry), None) => Ok(entry),
        (Some(_), Some(_)) => Err(in_both_environments()),
    }
}

/// The error of an id that two channels have.
pub(super) fn in_both_environments() -> ApiError {
    ApiError::field("environment", "both environments have a channel with this id: name one with --environment")
}
