//! The phone's state in the form that the Signal library needs. It is in memory, so no call waits.

use std::collections::HashMap;

use async_trait::async_trait;
use wacore::libsignal::protocol::error::Result;
use wacore::libsignal::protocol::{
    Direction, GenericSignedPreKey as _, IdentityChange, IdentityKey, IdentityKeyPair, IdentityKeyStore, KeyPair,
    PreKeyId, PreKeyRecord, PreKeyStore, ProtocolAddress, SessionRecord, SessionStore, SignalProtocolError,
    SignedPreKeyId, SignedPreKeyRecord, SignedPreKeyStore, Timestamp,
};

use crate::network::rng;

/// The same for all, because a device is identified by its keys.
pub const REGISTRATION: u32 = 4242;
pub const SIGNED_KEY_ID: u32 = 1;

pub struct Identities {
    pub own: IdentityKeyPair,
    pub known: HashMap<String, IdentityKey>,
}

#[async_trait]
impl IdentityKeyStore for Identities {
    async fn get_identity_key_pair(&self) -> Result<IdentityKeyPair> {
        Ok(self.own.clone())
    }

    async fn get_local_registration_id(&self) -> Result<u32> {
        Ok(REGISTRATION)
    }

    async fn save_identity(&mut self, address: &ProtocolAddress, key: &IdentityKey) -> Result<IdentityChange> {
        let former = self.known.insert(address.as_str().to_owned(), *key);
        let replaced = former.is_some_and(|former| former.serialize() != key.serialize());
        Ok(if replaced { IdentityChange::ReplacedExisting } else { IdentityChange::NewOrUnchanged })
    }

    async fn is_trusted_identity(&self, _: &ProtocolAddress, _: &IdentityKey, _: Direction) -> Result<bool> {
        Ok(true)
    }

    async fn get_identity(&self, address: &ProtocolAddress) -> Result<Option<IdentityKey>> {
        Ok(self.known.get(address.as_str()).copied())
    }
}

#[derive(Default)]
pub struct Sessions(pub HashMap<String, SessionRecord>);

#[async_trait]
impl SessionStore for Sessions {
    async fn load_session(&self, address: &ProtocolAddress) -> Result<Option<SessionRecord>> {
        Ok(self.0.get(address.as_str()).cloned())
    }

    async fn has_session(&self, address: &ProtocolAddress) -> Result<bool> {
        Ok(self.0.contains_key(address.as_str()))
    }

    async fn store_session(&mut self, address: &ProtocolAddress, record: SessionRecord) -> Result<()> {
        self.0.insert(address.as_str().to_owned(), record);
        Ok(())
    }
}

#[derive(Default)]
pub struct OneTimeKeys(pub HashMap<u32, PreKeyRecord>);

#[async_trait]
impl PreKeyStore for OneTimeKeys {
    async fn get_pre_key(&self, id: PreKeyId) -> Result<PreKeyRecord> {
        self.0.get(&u32::from(id)).cloned().ok_or(SignalProtocolError::InvalidPreKeyId)
    }

    async fn save_pre_key(&mut self, id: PreKeyId, record: &PreKeyRecord) -> Result<()> {
        self.0.insert(id.into(), record.clone());
        Ok(())
    }

    async fn remove_pre_key(&mut self, id: PreKeyId) -> Result<()> {
        self.0.remove(&u32::from(id));
        Ok(())
    }
}

pub struct SignedKey(pub SignedPreKeyRecord);

impl SignedKey {
    pub fn new(by: &IdentityKeyPair) -> anyhow::Result<Self> {
        let pair = KeyPair::generate(&mut rng());
        let signature = by.private_key().calculate_signature(&pair.public_key.serialize(), &mut rng())?;
        let made = Timestamp::from_epoch_millis(0);
        Ok(Self(SignedPreKeyRecord::new(SIGNED_KEY_ID.into(), made, &pair, &signature)))
    }
}

#[async_trait]
impl SignedPreKeyStore for SignedKey {
    async fn get_signed_pre_key(&self, _: SignedPreKeyId) -> Result<SignedPreKeyRecord> {
        Ok(self.0.clone())
    }

    async fn save_signed_pre_key(&mut self, _: SignedPreKeyId, _: &SignedPreKeyRecord) -> Result<()> {
        Ok(())
    }
}
