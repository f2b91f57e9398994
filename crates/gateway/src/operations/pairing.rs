//! Channels that a person's phone links: connected, followed, asked for accounts.

use std::sync::Arc;
use std::time::Duration;

use recado_domain::account::KnownAccount;
use recado_domain::channel::{Actor, Channel, ChannelAction, ChannelType};
use recado_domain::error::AppError;
use recado_domain::phone::PhoneNumber;
use recado_providers::Provider;
use recado_providers::pairing::{Pairing, Pairs};
use tokio::sync::watch;

use crate::cluster::Owner;
use crate::directory::ChannelEntry;
use crate::gateway::Gateway;
use crate::operations::channels;

/// How long a call waits for the network's first code. What takes longer is to be followed.
const FIRST_CODE: Duration = Duration::from_secs(10);

/// The network of such channels.
fn network(gateway: &Gateway) -> Result<&Arc<dyn Pairs>, AppError> {
    gateway.providers.whatsapp_web().ok_or(AppError::WhatsAppWebMissing)
}

/// Refuses what only the node can do that holds the channel's line. Calls of the API come to that node by themselves; a
/// command has to be given there.
pub(super) async fn line_is_here(gateway: &Gateway, entry: &ChannelEntry) -> Result<(), AppError> {
    if entry.kind != ChannelType::WhatsAppWeb {
        return Ok(());
    }
    match gateway.nodes.owner(entry.via.key).await? {
        Owner::Other(node) => {
            Err(AppError::field("channel", format!("A linha do canal esta no no {}: repita o comando la.", node.name)))
        }
        // This node is giving the channel to another one.
        Owner::None if gateway.nodes.leases().session_epoch(entry.via.key).is_some() => Err(AppError::Unavailable),
        // Nobody holds it, so nobody's line is put down or taken up by this.
        Owner::Here | Owner::None => Ok(()),
    }
}

/// Brings a channel's line up, by its session or by pairing; with a phone number by a code that is typed on that phone.
/// Gives the channel and how far its linking has come.
pub async fn connect(
    gateway: &Gateway,
    entry: &ChannelEntry,
    phone: Option<&PhoneNumber>,
    by: Actor,
) -> Result<(Channel, Pairing), AppError> {
    let network = network(gateway)?;
    line_is_here(gateway, entry).await?;
    if gateway.secrets.is_empty() {
        return Err(AppError::SecretKeyMissing);
    }
    let channel = channels::get(gateway, entry).await?;
    channel.state.after(ChannelAction::Connect).ok_or(AppError::ChannelNotConnected)?;
    network.connect(&channel, phone, by).await?;
    gateway.dispatcher.wake(channel.key);
    let mut pairing = network.pairing(channel.key);
    let code = |pairing: &Pairing| match pairing {
        Pairing::Waiting => false,
        // A code for a phone was asked for while codes to scan were shown.
        Pairing::QrCode { .. } => phone.is_none(),
        _ => true,
    };
    // It is there, or it is told as it stands.
    drop(tokio::time::timeout(FIRST_CODE, pairing.wait_for(code)).await);
    let pairing = pairing.borrow().clone();
    Ok((channels::get(gateway, entry).await?, pairing))
}

/// How far a channel's linking has come, now and from now on. One that no phone links stays idle.
pub fn follow(gateway: &Gateway, entry: &ChannelEntry) -> Result<watch::Receiver<Pairing>, AppError> {
    match entry.kind {
        ChannelType::WhatsAppWeb => Ok(network(gateway)?.pairing(entry.via.key)),
        ChannelType::Sandbox | ChannelType::CloudApi => Ok(watch::channel(Pairing::Idle).1),
    }
}

/// The account behind a number.
pub async fn look_up(gateway: &Gateway, entry: &ChannelEntry, phone: &PhoneNumber) -> Result<KnownAccount, AppError> {
    match entry.kind {
        ChannelType::WhatsAppWeb => Ok(network(gateway)?.look_up(&entry.via, phone).await?),
        ChannelType::Sandbox => {
            let account = gateway.providers.sandbox().known_account(&entry.via, phone).await;
            Ok(KnownAccount { account, lid: None, checked_at: gateway.clock.now(), unconfirmed_at: None })
        }
        // Meta answers no such question.
        ChannelType::CloudApi => Err(AppError::NotImplemented),
    }
}
