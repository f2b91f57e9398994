//! How channels are linked to their networks.
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

pub(super) async fn all(db: Db<'_>) -> Done<Vec<Link>> {
    let _ = db;
    Err(Failure::Refused("not there yet"))
}

pub(super) async fn link(db: Db<'_>, link: &Link, expected: ChannelState, now: Millis) -> Done<bool> {
    let _ = db;
    Err(Failure::Refused("not there yet"))
}

pub(super) async fn reseal(db: Db<'_>, channel: ChannelKey, old: &[u8], new: &[u8]) -> Done<bool> {
    let _ = db;
    Err(Failure::Refused("not there yet"))
}
