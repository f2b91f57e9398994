//! The network's word on messages.
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

pub(super) async fn apply(db: Db<'_>, receipts: &[Receipt], now: Millis) -> Done<()> {
    let _ = db;
    Err(Failure::Refused("not there yet"))
}
