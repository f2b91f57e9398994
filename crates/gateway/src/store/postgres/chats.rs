//! Who may be written to freely, and what the network said of their numbers.
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

pub(super) async fn known_account(db: Db<'_>, channel: ChannelKey, phone: &str) -> Done<Option<KnownAccount>> {
    let _ = db;
    Err(Failure::Refused("not there yet"))
}

pub(super) async fn note_account(db: Db<'_>, who: (ChannelKey, &str), account: Option<&str>, now: Millis) -> Done<()> {
    let _ = db;
    Err(Failure::Refused("not there yet"))
}

pub(super) async fn note(db: Db<'_>, who: (ChannelKey, &str), opened_at: Option<Millis>) -> Done<bool> {
    let _ = db;
    Err(Failure::Refused("not there yet"))
}

pub(super) async fn forget_all(db: Db<'_>, channel: ChannelKey) -> Done<()> {
    let _ = db;
    Err(Failure::Refused("not there yet"))
}
