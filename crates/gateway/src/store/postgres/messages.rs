//! Reading messages.
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

pub(super) async fn one(db: Db<'_>, channel: ChannelKey, id: MessageId) -> Done<Option<Message>> {
    let _ = db;
    Err(Failure::Refused("not there yet"))
}

pub(super) async fn page(db: Db<'_>, query: &MessageQuery) -> Done<Option<Page>> {
    let _ = db;
    Err(Failure::Refused("not there yet"))
}

pub(super) async fn account(db: Db<'_>, channel: ChannelKey, recipient: &str) -> Done<Option<String>> {
    let _ = db;
    Err(Failure::Refused("not there yet"))
}
