//! Connects a channel to its number.

use std::sync::Arc;

use recado_domain::channel::{self, Channel, ChannelAction, ChannelKey};
use recado_domain::error::AppError;
use recado_store::StoreError;
use recado_store::sealed::Place;
use recado_store::shares::of_server;
use secrecy::ExposeSecret;

use crate::Connect;
use crate::cloud_api::link::FIELDS;
use crate::cloud_api::{CheckError, CloudApi, Link};

/// How often a transition is retried after a concurrent one.
const TRIES: usize = 5;

impl CloudApi {
    /// Links a channel to its number and connects it. Meta first confirms that the token may use the number. Fields that are
    /// not given keep the values of the channel's link.
    pub(super) async fn connect_channel(&self, request: Connect<'_>) -> Result<(), AppError> {
        let given = FIELDS.map(|field| request.given.field(field));
        if !request.given.unknown.is_empty() {
            // The errors of the other fields are reported with them.
            let mut errors = Link::parse(&given, None).err().unwrap_or_default();
            errors.append(request.given.unknown);
            return Err(errors.into());
        }
        let (key, context) = (request.channel.key, &self.context);
        if context.secrets.is_empty() {
            return Err(AppError::SecretKeyMissing);
        }
        // Check the state before Meta is called: a channel that cannot be connected, or was deleted, costs no call.
        check_state(&context.channel(key).await?)?;
        let link = Link::parse(&given, self.stored(key).await?.as_ref())?;
        let number = self.graph().check(&link).await.map_err(refusal)?;
        let link = Arc::new(link.with_number(number));
        let sealed =
            context.secrets.seal(Place::Link(key), link.secrets().expose_secret().as_bytes(), &*context.entropy);
        let sealed = sealed.map_err(|_| AppError::SecretKeyMissing)?;
        let row = channel::Link { channel: key, details: link.details(), sealed };
        let _one_at_a_time = context.changes.lock().await;
        for _ in 0..TRIES {
            // Calls of all owners wait for this lock.
            let channel = of_server(context.channel(key)).await?;
            check_state(&channel)?;
            // The new link is used before the channel is connected. Otherwise a send could use the old link, be refused, and
            // pause the channel.
            let former = self.get(key);
            self.set(key, link.clone());
            let link_row = context.store.link_channel(row.clone(), channel.state, request.by, context.clock.now());
            let linked = of_server(link_row).await;
            if !matches!(linked, Ok(true)) {
                former.map_or_else(|| self.remove(key), |former| self.set(key, former));
            }
            if linked? {
                let from = channel.state.name();
                tracing::info!(channel.id = %request.channel.id, from, to = "CONNECTED", "channel moved");
                return Ok(());
            }
        }
        Err(AppError::Unavailable)
    }

    /// The stored link of a channel. An unreadable link counts as none, so that it can be replaced.
    async fn stored(&self, channel: ChannelKey) -> Result<Option<Link>, StoreError> {
        let row = self.context.store.link(channel).await?;
        Ok(row.and_then(|row| self.open(&row).ok()))
    }
}

fn check_state(channel: &Channel) -> Result<(), AppError> {
    channel.state.after(ChannelAction::Connect).map(drop).ok_or(AppError::ChannelNotConnected)
}

fn refusal(error: CheckError) -> AppError {
    error.faulty_field().map_or(AppError::Unavailable, Into::into)
}
