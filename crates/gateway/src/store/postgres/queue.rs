//! The queue: outcomes and cancellations.
#![expect(unused, reason = "not there yet")]

use super::db::{Db, Done, Failure};
use crate::clock::Millis;
use crate::store::rows::{
    ApiKey, Cancelled, Channel, ChannelKey, Claim, ClaimRequest, Enqueued, Institution, KnownAccount, Link, Message,
    MessageQuery, NewChannel, NewMessage, Outcomes, Page, PurgeRequest, Receipt, Seq, SessionChange, SessionKey,
    SessionRow,
};
use recado_domain::api_key::Environment;
use recado_domain::channel::{ChannelSettings, ChannelState};
use recado_domain::ids::{ApiKeyId, InstitutionId, MessageId};

pub(super) async fn record(db: Db<'_>, outcomes: &Outcomes) -> Done<()> {
    let _ = db;
    Err(Failure::Refused("not there yet"))
}

pub(super) async fn hold(db: Db<'_>, channel: ChannelKey, until: Millis) -> Done<()> {
    let _ = db;
    Err(Failure::Refused("not there yet"))
}

pub(super) async fn cancel(db: Db<'_>, channel: ChannelKey, id: MessageId, now: Millis) -> Done<Cancelled> {
    let _ = db;
    Err(Failure::Refused("not there yet"))
}

pub(super) async fn cancel_queued(db: Db<'_>, channel: ChannelKey, limit: usize, now: Millis) -> Done<usize> {
    let _ = db;
    Err(Failure::Refused("not there yet"))
}

pub(super) async fn open_channels(db: Db<'_>) -> Done<Vec<ChannelKey>> {
    let _ = db;
    Err(Failure::Refused("not there yet"))
}
