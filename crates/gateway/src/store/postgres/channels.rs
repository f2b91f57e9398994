//! Channels.
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

pub(super) async fn all(db: Db<'_>) -> Done<Vec<Channel>> {
    let _ = db;
    Err(Failure::Refused("not there yet"))
}

pub(super) async fn page(
    db: Db<'_>,
    owner: (InstitutionId, Environment),
    after: ChannelKey,
    limit: usize,
) -> Done<Vec<Channel>> {
    let _ = db;
    Err(Failure::Refused("not there yet"))
}

pub(super) async fn one(db: Db<'_>, key: ChannelKey) -> Done<Option<Channel>> {
    let _ = db;
    Err(Failure::Refused("not there yet"))
}

pub(super) async fn create(db: Db<'_>, new: &NewChannel) -> Done<Option<Channel>> {
    let _ = db;
    Err(Failure::Refused("not there yet"))
}

pub(super) async fn move_to(
    db: Db<'_>,
    key: ChannelKey,
    step: (ChannelState, ChannelState),
    reason: Option<&str>,
    now: Millis,
) -> Done<bool> {
    let _ = db;
    Err(Failure::Refused("not there yet"))
}

pub(super) async fn update(db: Db<'_>, key: ChannelKey, name: &str, settings: ChannelSettings) -> Done<bool> {
    let _ = db;
    Err(Failure::Refused("not there yet"))
}

pub(super) async fn restrict(db: Db<'_>, key: ChannelKey, until: Millis, reason: &str, now: Millis) -> Done<bool> {
    let _ = db;
    Err(Failure::Refused("not there yet"))
}

pub(super) async fn pause(db: Db<'_>, key: ChannelKey, reason: &str, at: Millis) -> Done<()> {
    let _ = db;
    Err(Failure::Refused("not there yet"))
}

pub(super) async fn delete(db: Db<'_>, key: ChannelKey, now: Millis) -> Done<()> {
    let _ = db;
    Err(Failure::Refused("not there yet"))
}

pub(super) async fn since(db: Db<'_>, version: i64) -> Done<Vec<Channel>> {
    let _ = (db, version);
    Err(Failure::Refused("not there yet"))
}
