//! Institutions and API keys.
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

pub(super) async fn institutions(db: Db<'_>) -> Done<Vec<Institution>> {
    let _ = db;
    Err(Failure::Refused("not there yet"))
}

pub(super) async fn create_institution(db: Db<'_>, institution: &Institution) -> Done<()> {
    let _ = db;
    Err(Failure::Refused("not there yet"))
}

pub(super) async fn api_keys(db: Db<'_>) -> Done<Vec<ApiKey>> {
    let _ = db;
    Err(Failure::Refused("not there yet"))
}

pub(super) async fn create_api_key(db: Db<'_>, key: &ApiKey) -> Done<()> {
    let _ = db;
    Err(Failure::Refused("not there yet"))
}

pub(super) async fn revoke_api_key(db: Db<'_>, id: ApiKeyId, now: Millis) -> Done<()> {
    let _ = db;
    Err(Failure::Refused("not there yet"))
}

pub(super) async fn touch_api_keys(db: Db<'_>, used: &[(ApiKeyId, Millis)]) -> Done<()> {
    let _ = db;
    Err(Failure::Refused("not there yet"))
}

pub(super) async fn keys_since(db: Db<'_>, version: i64) -> Done<Vec<ApiKey>> {
    let _ = (db, version);
    Err(Failure::Refused("not there yet"))
}
