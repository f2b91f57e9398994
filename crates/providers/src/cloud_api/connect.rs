//! How a channel is connected to its number.

use std::sync::Arc;

use recado_domain::channel::{self, Channel, ChannelAction, ChannelKey};
use recado_domain::error::AppError;
use recado_store::StoreError;
use recado_store::sealed::Place;
use secrecy::ExposeSecret;

use crate::Connect;
use crate::cloud_api::link::FIELDS;
use crate::cloud_api::{CheckError, CloudApi, Link};

/// How often a move is tried again when somebody else moved the channel meanwhile.
const TRIES: usize = 5;

impl CloudApi {
    /// Links a channel to its number and connects it. Meta is asked first whether the token may speak for the number. What
    /// is not given is as in the link that the channel has.
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
        // Before Meta is asked: a channel that cannot be connected, or is gone, costs no call.
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
            let channel = context.channel(key).await?;
            check_state(&channel)?;
            // In use before the channel is connected: no send may still take the old one then, be refused, and pause the
            // channel.
            let former = self.get(key);
            self.set(key, link.clone());
            let linked = context.store.link_channel(row.clone(), channel.state, request.by, context.clock.now()).await;
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

    /// The link that a channel has. One that cannot be opened is none: it has to be made anew.
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
