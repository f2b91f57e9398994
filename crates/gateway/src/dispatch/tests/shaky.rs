//! A store that fails when a test says so, and tells what the dispatcher asked of it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use recado_domain::account::KnownAccount;
use recado_domain::api_key::Environment;
use recado_domain::channel::{
    Actor, Channel, ChannelEventPage, ChannelEventQuery, ChannelKey, ChannelMove, ChannelSettings, ChannelState, Held,
    Link, LinkRest, NewChannel, SessionChange, SessionKey, SessionOf, SessionRow,
};
use recado_domain::clock::Millis;
use recado_domain::ids::{ApiKeyId, InstitutionId, MessageId};
use recado_domain::institution::{ApiKey, Institution};
use recado_domain::message::{Cancelled, Enqueued, Message, MessageQuery, NewMessage, Page, Seq};
use recado_domain::party::Party;
use recado_domain::phone::DefaultCountry;
use recado_domain::queue::{Claim, ClaimRequest, Outcomes, PurgeRequest, Receipt, Settlement};
use recado_store::commits::Follow;
use recado_store::person::{Erased, Erasure, PersonPage, PersonQuery};
use recado_store::{Health, Result, Store, StoreError};
use tokio::sync::watch;

/// How one operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// An outcome is not kept.
    SettleFails,
    /// An outcome is kept, and nobody is told.
    SettleUntold,
    /// Nothing is claimed.
    ClaimFails,
    /// Messages are claimed, and nobody is told.
    ClaimUntold,
}

/// What the store did for the dispatcher.
#[derive(Debug, Clone)]
pub(super) enum Done {
    Claimed(Claim),
    Settled(Vec<(Seq, Settlement)>),
}

pub(super) struct Shaky {
    inner: Arc<dyn Store>,
    troubles: Mutex<Vec<Trouble>>,
    meanwhile: Mutex<Option<BoxFuture<'static, ()>>>,
    done: watch::Sender<Vec<Done>>,
    claiming: AtomicUsize,
    most_claiming: AtomicUsize,
}

impl Shaky {
    pub(super) fn new(inner: Arc<dyn Store>) -> Self {
        let (troubles, meanwhile, done) = (Mutex::default(), Mutex::default(), watch::Sender::default());
        let (claiming, most_claiming) = (AtomicUsize::default(), AtomicUsize::default());
        Self { inner, troubles, meanwhile, done, claiming, most_claiming }
    }

    pub(super) fn trouble(&self, troubles: impl IntoIterator<Item = Trouble>) {
        self.troubles.lock().expect("no panic").extend(troubles);
    }

    /// Does this once, between a claim that found nothing and its answer.
    pub(super) fn when_found_empty(&self, meanwhile: impl Future<Output = ()> + Send + 'static) {
        *self.meanwhile.lock().expect("no panic") = Some(meanwhile.boxed());
    }

    pub(super) fn troubles_left(&self) -> usize {
        self.troubles.lock().expect("no panic").len()
    }

    pub(super) fn done(&self) -> Vec<Done> {
        self.done.borrow().clone()
    }

    /// Waits until what was done is as wanted.
    pub(super) async fn until(&self, wanted: impl Fn(&[Done]) -> bool) {
        super::in_time(self.done.subscribe().wait_for(|done| wanted(done))).await.expect("it lives");
    }

    /// Waits for so many outcomes to be recorded.
    pub(super) async fn until_settled(&self, count: usize) {
        let settled = |done: &Done| if let Done::Settled(outcomes) = done { outcomes.len() } else { 0 };
        self.until(|done| done.iter().map(settled).sum::<usize>() >= count).await;
    }

    /// Waits until the last claim found nothing to take before this time.
    pub(super) async fn until_waiting(&self, next_at: Millis) {
        let waits = |claim: &Claim| claim.messages.is_empty() && claim.next_at == Some(next_at);
        let last_claim = |done: &Done| if let Done::Claimed(claim) = done { Some(waits(claim)) } else { None };
        self.until(|done| done.iter().rev().find_map(last_claim) == Some(true)).await;
    }

    /// The most claims that were asked for at a time.
    pub(super) fn most_claiming(&self) -> usize {
        self.most_claiming.load(Ordering::SeqCst)
    }

    fn meets(&self, trouble: Trouble) -> bool {
        let mut troubles = self.troubles.lock().expect("no panic");
        let place = troubles.iter().position(|next| *next == trouble);
        place.map(|place| troubles.remove(place)).is_some()
    }
}

fn down<T>() -> Result<T> {
    Err(StoreError::Unavailable("as the test wants it".to_owned()))
}

#[async_trait]
impl Store for Shaky {
    fn health(&self) -> watch::Receiver<Health> {
        self.inner.health()
    }

    fn follow(&self, follow: Arc<dyn Follow>) {
        self.inner.follow(follow);
    }

    async fn claim(&self, request: ClaimRequest) -> Result<Claim> {
        if self.meets(Trouble::ClaimFails) {
            return down();
        }
        let claiming = self.claiming.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_claiming.fetch_max(claiming, Ordering::SeqCst);
        let claim = self.inner.claim(request).await;
        self.claiming.fetch_sub(1, Ordering::SeqCst);
        let claim = claim?;
        if !claim.messages.is_empty() && self.meets(Trouble::ClaimUntold) {
            return down();
        }
        let empty = claim.messages.is_empty() && claim.next_at.is_none();
        let meanwhile = if empty { self.meanwhile.lock().expect("no panic").take() } else { None };
        if let Some(meanwhile) = meanwhile {
            meanwhile.await;
        }
        self.done.send_modify(|done| done.push(Done::Claimed(claim.clone())));
        Ok(claim)
    }

    async fn ban_link(&self, channel: ChannelKey, until: Millis) -> Result<()> {
        self.inner.ban_link(channel, until).await
    }

    async fn note_login(&self, channel: ChannelKey, at: Millis) -> Result<()> {
        self.inner.note_login(channel, at).await
    }

    async fn link_rest(&self, channel: ChannelKey) -> Result<LinkRest> {
        self.inner.link_rest(channel).await
    }

    async fn hold_channel(&self, channel: ChannelKey, until: Millis) -> Result<()> {
        self.inner.hold_channel(channel, until).await
    }

    async fn settle_and_claim(&self, outcomes: Outcomes, request: ClaimRequest) -> (Result<()>, Result<Claim>) {
        tokio::join!(self.settle(outcomes), self.claim(request))
    }

    async fn settle(&self, outcomes: Outcomes) -> Result<()> {
        if self.meets(Trouble::SettleFails) {
            return down();
        }
        self.inner.settle(outcomes.clone()).await?;
        if self.meets(Trouble::SettleUntold) {
            return down();
        }
        self.done.send_modify(|done| done.push(Done::Settled(outcomes.settled)));
        Ok(())
    }

    async fn institutions(&self) -> Result<Vec<Institution>> {
        self.inner.institutions().await
    }

    async fn create_institution(&self, institution: Institution) -> Result<()> {
        self.inner.create_institution(institution).await
    }

    async fn set_default_country(&self, id: InstitutionId, country: DefaultCountry) -> Result<bool> {
        self.inner.set_default_country(id, country).await
    }

    async fn api_keys(&self) -> Result<Vec<ApiKey>> {
        self.inner.api_keys().await
    }

    async fn create_api_key(&self, key: ApiKey) -> Result<()> {
        self.inner.create_api_key(key).await
    }

    async fn revoke_api_key(&self, id: ApiKeyId, now: Millis) -> Result<()> {
        self.inner.revoke_api_key(id, now).await
    }

    async fn touch_api_keys(&self, used: Vec<(ApiKeyId, Millis)>) -> Result<()> {
        self.inner.touch_api_keys(used).await
    }

    async fn channels(&self) -> Result<Vec<Channel>> {
        self.inner.channels().await
    }

    async fn channels_of(
        &self,
        owner: (InstitutionId, Environment),
        after: ChannelKey,
        limit: usize,
    ) -> Result<Vec<Channel>> {
        self.inner.channels_of(owner, after, limit).await
    }

    async fn channel(&self, key: ChannelKey) -> Result<Option<Channel>> {
        self.inner.channel(key).await
    }

    async fn create_channel(&self, channel: NewChannel) -> Result<Option<Channel>> {
        self.inner.create_channel(channel).await
    }

    async fn move_channel(&self, key: ChannelKey, to: ChannelMove) -> Result<bool> {
        self.inner.move_channel(key, to).await
    }

    async fn move_held_channel(&self, held: Held, to: ChannelMove) -> Result<bool> {
        self.inner.move_held_channel(held, to).await
    }

    async fn restrict_channel(&self, key: ChannelKey, until: Millis, reason: String, now: Millis) -> Result<bool> {
        self.inner.restrict_channel(key, until, reason, now).await
    }

    async fn delete_channel(&self, key: ChannelKey, by: Actor, now: Millis) -> Result<()> {
        self.inner.delete_channel(key, by, now).await
    }

    async fn channel_events(&self, query: ChannelEventQuery) -> Result<ChannelEventPage> {
        self.inner.channel_events(query).await
    }

    async fn links(&self) -> Result<Vec<Link>> {
        self.inner.links().await
    }

    async fn link(&self, channel: ChannelKey) -> Result<Option<Link>> {
        self.inner.link(channel).await
    }

    async fn link_channel(&self, link: Link, expected: ChannelState, by: Actor, now: Millis) -> Result<bool> {
        self.inner.link_channel(link, expected, by, now).await
    }

    async fn link_held_channel(&self, link: Link, held: Held, expected: ChannelState, now: Millis) -> Result<bool> {
        self.inner.link_held_channel(link, held, expected, now).await
    }

    async fn reseal_link(&self, channel: ChannelKey, old: Vec<u8>, new: Vec<u8>) -> Result<bool> {
        self.inner.reseal_link(channel, old, new).await
    }

    async fn session_values(&self, of: SessionOf, kind: u8, keys: Vec<Vec<u8>>) -> Result<Vec<Option<Vec<u8>>>> {
        self.inner.session_values(of, kind, keys).await
    }

    async fn session_list(&self, of: SessionOf, kind: u8, prefix: Vec<u8>) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        self.inner.session_list(of, kind, prefix).await
    }

    async fn write_session(&self, held: Held, changes: Vec<SessionChange>) -> Result<u64> {
        self.inner.write_session(held, changes).await
    }

    async fn end_session(&self, held: Held) -> Result<()> {
        self.inner.end_session(held).await
    }

    async fn session_rows(&self, after: Option<SessionKey>, limit: usize) -> Result<Vec<SessionRow>> {
        self.inner.session_rows(after, limit).await
    }

    async fn reseal_session_row(&self, old: SessionRow, new: Vec<u8>) -> Result<bool> {
        self.inner.reseal_session_row(old, new).await
    }

    async fn known_account(&self, channel: ChannelKey, phone: String) -> Result<Option<KnownAccount>> {
        self.inner.known_account(channel, phone).await
    }

    async fn note_account(
        &self,
        channel: ChannelKey,
        phone: String,
        account: Option<Party>,
        now: Millis,
    ) -> Result<()> {
        self.inner.note_account(channel, phone, account, now).await
    }

    async fn note_chat(&self, channel: ChannelKey, who: Party) -> Result<bool> {
        self.inner.note_chat(channel, who).await
    }

    async fn unasked_recipients(&self, channel: ChannelKey, lid: String, limit: u32) -> Result<Vec<String>> {
        self.inner.unasked_recipients(channel, lid, limit).await
    }

    async fn cancel_former(&self, key: ChannelKey, limit: usize, now: Millis) -> Result<usize> {
        self.inner.cancel_former(key, limit, now).await
    }

    async fn enqueue(&self, message: NewMessage) -> Result<Enqueued> {
        self.inner.enqueue(message).await
    }

    async fn apply_receipts(&self, receipts: Vec<Receipt>, now: Millis) -> Result<()> {
        self.inner.apply_receipts(receipts, now).await
    }

    async fn update_channel(&self, key: ChannelKey, name: String, settings: ChannelSettings) -> Result<bool> {
        self.inner.update_channel(key, name, settings).await
    }

    async fn account(&self, channel: ChannelKey, recipient: String) -> Result<Option<String>> {
        self.inner.account(channel, recipient).await
    }

    async fn cancel(&self, channel: ChannelKey, id: MessageId, now: Millis) -> Result<Cancelled> {
        self.inner.cancel(channel, id, now).await
    }

    async fn open_channels(&self) -> Result<Vec<ChannelKey>> {
        self.inner.open_channels().await
    }

    async fn message(&self, channel: ChannelKey, id: MessageId) -> Result<Option<Message>> {
        self.inner.message(channel, id).await
    }

    async fn messages(&self, query: MessageQuery) -> Result<Option<Page>> {
        self.inner.messages(query).await
    }

    async fn purge(&self, request: PurgeRequest) -> Result<Option<Seq>> {
        self.inner.purge(request).await
    }

    async fn person(&self, query: PersonQuery) -> Result<PersonPage> {
        self.inner.person(query).await
    }

    async fn erase_person(&self, erasure: Erasure, now: Millis) -> Result<Erased> {
        self.inner.erase_person(erasure, now).await
    }

    async fn forget_erased(&self) -> Result<bool> {
        self.inner.forget_erased().await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}
