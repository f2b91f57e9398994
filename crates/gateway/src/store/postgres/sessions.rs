//! Sessions of linked devices, sealed row by row.
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

pub(super) async fn values(db: Db<'_>, of: (ChannelKey, u8), keys: &[Vec<u8>]) -> Done<Vec<Option<Vec<u8>>>> {
    let _ = db;
    Err(Failure::Refused("not there yet"))
}

pub(super) async fn list(db: Db<'_>, of: (ChannelKey, u8), prefix: &[u8]) -> Done<Vec<(Vec<u8>, Vec<u8>)>> {
    let _ = db;
    Err(Failure::Refused("not there yet"))
}

pub(super) async fn write(
    db: Db<'_>,
    channel: (ChannelKey, crate::store::rows::Epoch),
    changes: &[SessionChange],
) -> Done<u64> {
    let _ = db;
    Err(Failure::Refused("not there yet"))
}

pub(super) async fn end(db: Db<'_>, channel: ChannelKey) -> Done<()> {
    let _ = db;
    Err(Failure::Refused("not there yet"))
}

pub(super) async fn page(db: Db<'_>, after: Option<&SessionKey>, limit: usize) -> Done<Vec<SessionRow>> {
    let _ = db;
    Err(Failure::Refused("not there yet"))
}

pub(super) async fn reseal(db: Db<'_>, old: &SessionRow, new: &[u8]) -> Done<bool> {
    let _ = db;
    Err(Failure::Refused("not there yet"))
}
