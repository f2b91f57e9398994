//! The keys, the channels and the default countries of institutions, in memory, because every request needs them.
//!
//! If one process has the store to itself (a lock on the data directory guarantees it), every change passes through here, so
//! the directory is always current: a revoked key is refused at the next call. If nodes share a store,
//! `cluster::directory_sync` applies the changes of other nodes within a second.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use recado_domain::api_key::Environment;
use recado_domain::channel::{Channel, ChannelKey, ChannelRef, ChannelSettings, ChannelType};
use recado_domain::clock::Millis;
use recado_domain::ids::{ApiKeyId, InstitutionId};
use recado_domain::institution::ApiKey;
use recado_domain::phone::DefaultCountry;
use recado_domain::rate_limit::Quota;
use recado_store::StoreError;
use recado_store::nodes::SharedQuota;

use crate::rate_limit::{Calls, KeyLimit};

/// A key with its rate limits and last use.
pub struct KeyEntry {
    /// The key as it was created.
    pub key: ApiKey,
    /// The limit of calls that change something.
    pub sends: KeyLimit,
    /// The limit of calls that only read, so that polling does not use up the limit of sending.
    pub reads: KeyLimit,
    /// The key that created this one, once it is known here.
    parent: OnceLock<Arc<KeyEntry>>,
    revoked: AtomicBool,
    last_used_at: AtomicI64,
    /// Whether it was used since its last use was stored.
    used: AtomicBool,
}

impl KeyEntry {
    fn new(key: ApiKey) -> Self {
        Self {
            sends: KeyLimit::new(key.id, Calls::Sends, key.grant.rate_limit),
            reads: KeyLimit::new(key.id, Calls::Reads, key.grant.rate_limit),
            parent: OnceLock::new(),
            revoked: AtomicBool::new(key.revoked_at.is_some()),
            last_used_at: AtomicI64::new(key.last_used_at.unwrap_or(0)),
            used: AtomicBool::new(false),
            key,
        }
    }

    /// The key and its ancestors.
    fn lineage(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |entry| entry.parent.get().map(|parent| &**parent))
    }

    /// Whether the key or an ancestor was revoked. A key may be created at the moment in which its parent is revoked.
    pub fn is_revoked(&self) -> bool {
        self.lineage().any(|entry| {
            let lost = entry.key.parent.is_some() && entry.parent.get().is_none();
            lost || entry.revoked.load(Ordering::Acquire)
        })
    }

    /// Counts a call, also for every ancestor: creating keys does not permit more calls. Returns the tightest quota.
    pub async fn acquire(
        &self,
        calls: Calls,
        now: Millis,
        nodes: Option<&dyn SharedQuota>,
    ) -> Result<Option<Quota>, StoreError> {
        let mut tightest: Option<Quota> = None;
        // The oldest ancestor first: a call that an ancestor's limit refuses uses no token of the child.
        let lineage: Vec<_> = self.lineage().collect();
        for entry in lineage.into_iter().rev() {
            let limit = if calls == Calls::Reads { &entry.reads } else { &entry.sends };
            let Some(quota) = limit.acquire(now, nodes).await? else { continue };
            if !quota.allowed {
                return Ok(Some(quota));
            }
            tightest = Some(tightest.filter(|least| least.remaining <= quota.remaining).unwrap_or(quota));
        }
        Ok(tightest)
    }

    /// Whether the key is valid now.
    pub fn is_valid(&self, now: Millis) -> bool {
        !self.is_revoked() && self.key.grant.expires_at.is_none_or(|end| now < end)
    }

    /// Records a use; `true` if it is the first since uses were stored.
    pub fn touch(&self, now: Millis) -> bool {
        self.last_used_at.store(now, Ordering::Relaxed);
        !self.used.load(Ordering::Relaxed) && !self.used.swap(true, Ordering::Relaxed)
    }

    /// When it was last used.
    pub fn last_used_at(&self) -> Option<Millis> {
        Some(self.last_used_at.load(Ordering::Relaxed)).filter(|at| *at > 0)
    }
}

/// A channel for requests. State that can change, except deletion, is read from the store.
pub struct ChannelEntry {
    pub via: ChannelRef,
    pub environment: Environment,
    pub kind: ChannelType,
    settings: RwLock<ChannelSettings>,
    deleted: AtomicBool,
}

impl ChannelEntry {
    /// The channel's settings.
    pub fn settings(&self) -> ChannelSettings {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it was deleted. Its history can still be read.
    pub fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }
}

/// By id first, because an unauthenticated caller may ask for all channels with an id.
type Names = HashMap<String, HashMap<(InstitutionId, Environment), Arc<ChannelEntry>>>;

/// All keys and channels, and the default countries of institutions.
#[derive(Default)]
pub struct Directory {
    /// The countries that were set; any other institution has the default country of the server.
    default_countries: RwLock<HashMap<InstitutionId, DefaultCountry>>,
    keys: RwLock<HashMap<[u8; 32], Arc<KeyEntry>>>,
    channels: RwLock<HashMap<ChannelKey, Arc<ChannelEntry>>>,
    names: RwLock<Names>,
}

/// Links keys to the keys that created them. The order of the keys is not reliable, because a clock can be set back.
fn find_parents(keys: &HashMap<[u8; 32], Arc<KeyEntry>>) {
    let untied = |entry: &&Arc<KeyEntry>| entry.key.parent.is_some() && entry.parent.get().is_none();
    if !keys.values().any(|entry| untied(&entry)) {
        return;
    }
    let by_id: HashMap<_, _> = keys.values().map(|entry| (entry.key.id, entry)).collect();
    for entry in keys.values().filter(untied) {
        // A key is not its own parent: such a row would create a cycle.
        let parent = entry.key.parent.filter(|parent| *parent != entry.key.id).and_then(|id| by_id.get(&id));
        parent.and_then(|parent| entry.parent.set((*parent).clone()).err());
    }
}

impl Directory {
    /// A directory of these keys and channels.
    pub fn new(keys: Vec<ApiKey>, channels: &[Channel]) -> Self {
        let entries = keys.into_iter().map(|key| (key.hash, Arc::new(KeyEntry::new(key))));
        let keys: HashMap<_, _> = entries.collect();
        find_parents(&keys);
        let directory = Self { keys: RwLock::new(keys), ..Self::default() };
        channels.iter().for_each(|channel| directory.add_channel(channel));
        directory
    }

    /// The default country of an institution.
    pub fn default_country(&self, institution: InstitutionId) -> DefaultCountry {
        let countries = self.default_countries.read().unwrap_or_else(PoisonError::into_inner);
        countries.get(&institution).copied().unwrap_or_default()
    }

    /// The default countries of all institutions.
    pub fn default_countries(&self) -> Vec<DefaultCountry> {
        let countries = self.default_countries.read().unwrap_or_else(PoisonError::into_inner);
        countries.values().copied().chain([DefaultCountry::Server]).collect()
    }

    /// Sets the default country of an institution.
    pub fn set_default_country(&self, institution: InstitutionId, country: DefaultCountry) {
        let mut countries = self.default_countries.write().unwrap_or_else(PoisonError::into_inner);
        if country == DefaultCountry::Server {
            countries.remove(&institution);
        } else {
            countries.insert(institution, country);
        }
    }

    /// The key with this hash, valid or not.
    pub fn key(&self, hash: &[u8; 32]) -> Option<Arc<KeyEntry>> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).get(hash).cloned()
    }

    /// An institution's keys of an environment, oldest first; revoked ones too.
    pub fn keys(&self, institution: InstitutionId, environment: Environment) -> Vec<Arc<KeyEntry>> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let own = keys
            .values()
            .filter(|entry| entry.key.institution == institution && entry.key.grant.environment == environment);
        let mut own: Vec<_> = own.cloned().collect();
        own.sort_unstable_by_key(|entry| (entry.key.created_at, entry.key.id));
        own
    }

    /// The valid keys that end.
    pub fn ending_keys(&self, now: Millis) -> Vec<Arc<KeyEntry>> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let ends = |entry: &&Arc<KeyEntry>| entry.key.grant.expires_at.is_some() && entry.is_valid(now);
        keys.values().filter(ends).cloned().collect()
    }

    /// Adds a key.
    pub fn add_key(&self, key: ApiKey) {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        keys.insert(key.hash, Arc::new(KeyEntry::new(key)));
        find_parents(&keys);
    }

    /// Adds a key that another node created, or applies a change of a key.
    pub fn update_key(&self, key: ApiKey) {
        match self.key(&key.hash) {
            // The same entry, which keeps the state of its rate limits.
            Some(known) if key.revoked_at.is_some() => self.revoke_key(&known),
            Some(_) => {}
            None => self.add_key(key),
        }
    }

    /// Revokes the key with this id.
    pub fn revoke(&self, id: ApiKeyId) {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.values().filter(|entry| entry.key.id == id).for_each(|entry| self.revoke_key(entry));
    }

    /// Revokes the key.
    pub fn revoke_key(&self, entry: &KeyEntry) {
        entry.revoked.store(true, Ordering::Release);
    }

    /// The keys that were used since the last call, with their last use.
    pub fn drain_used_keys(&self) -> Vec<(ApiKeyId, Millis)> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let used = keys.values().filter(|entry| entry.used.swap(false, Ordering::Relaxed));
        used.filter_map(|entry| Some((entry.key.id, entry.last_used_at()?))).collect()
    }

    /// The channel with this number in the store; it may be deleted.
    pub fn channel(&self, key: ChannelKey) -> Option<Arc<ChannelEntry>> {
        self.channels.read().unwrap_or_else(PoisonError::into_inner).get(&key).cloned()
    }

    /// The channel with this id; it may be deleted.
    pub fn find(&self, institution: InstitutionId, environment: Environment, id: &str) -> Option<Arc<ChannelEntry>> {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        names.get(id)?.get(&(institution, environment)).cloned()
    }

    /// The channels with this id in all institutions; they may be deleted.
    pub fn named(&self, id: &str) -> Vec<Arc<ChannelEntry>> {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        names.get(id).into_iter().flat_map(HashMap::values).cloned().collect()
    }

    /// Adds a channel, or applies its deletion or change.
    pub fn add_channel(&self, channel: &Channel) {
        let mut channels = self.channels.write().unwrap_or_else(PoisonError::into_inner);
        // The same entry, because a dispatcher's task that settles the messages in flight may hold it.
        let entry = channels.entry(channel.key).or_insert_with(|| {
            let via = ChannelRef { key: channel.key, institution: channel.institution, id: channel.id.clone() };
            let (environment, kind) = (channel.environment, channel.kind);
            Arc::new(ChannelEntry {
                via,
                environment,
                kind,
                settings: RwLock::new(channel.settings.clone()),
                deleted: false.into(),
            })
        });
        *entry.settings.write().unwrap_or_else(PoisonError::into_inner) = channel.settings.clone();
        entry.deleted.store(channel.deleted_at.is_some(), Ordering::Release);
        let mut names = self.names.write().unwrap_or_else(PoisonError::into_inner);
        let place = (channel.institution, channel.environment);
        names.entry(channel.id.to_string()).or_default().insert(place, entry.clone());
    }

    /// All channels that are not deleted.
    pub fn channels(&self) -> Vec<Arc<ChannelEntry>> {
        let channels = self.channels.read().unwrap_or_else(PoisonError::into_inner);
        channels.values().filter(|entry| !entry.is_deleted()).cloned().collect()
    }

    /// Marks a channel as deleted.
    #[cfg(test)]
    pub fn delete_channel(&self, entry: &ChannelEntry) {
        entry.deleted.store(true, Ordering::Release);
    }
}
