//! Keys that devices upload, and that others fetch to write to them. Shapes of the stanzas as in `wacore::iq::prekeys`.

use anyhow::{Context as _, Result, anyhow};
use wacore::iq::prekeys::{OneTimePreKeyNode, PreKeyBundleUserNode, SignedPreKeyNode};
use wacore::libsignal::protocol::{IdentityKey, PreKeyBundle, PublicKey};
use wacore::protocol::ProtocolNode as _;
use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Jid, Node, NodeRef};

use crate::network::{Slot, State};
use crate::stanza::{attr, content, number};

#[derive(Clone)]
pub struct UploadedKeys {
    registration: u32,
    pub identity: Vec<u8>,
    signed: SignedKey,
    /// By id.
    one_time: Vec<(u32, Vec<u8>)>,
}

#[derive(Clone)]
struct SignedKey {
    id: u32,
    key: Vec<u8>,
    signature: Vec<u8>,
}

impl SignedKey {
    fn read(node: &NodeRef<'_>) -> Self {
        Self {
            id: number(node.get_optional_child("id")),
            key: content(node.get_optional_child("value")),
            signature: content(node.get_optional_child("signature")),
        }
    }
}

impl UploadedKeys {
    pub fn one_time_left(&self) -> usize {
        self.one_time.len()
    }

    /// Oldest first: Baileys refills when its newest key is gone.
    fn pop_one_time(&mut self) -> Option<(u32, Vec<u8>)> {
        (!self.one_time.is_empty()).then(|| self.one_time.remove(0))
    }

    /// The keys that open a session with the device that uploaded them. Uses up a one-time key.
    pub fn bundle(&mut self) -> Result<PreKeyBundle> {
        let one_time = match self.pop_one_time() {
            Some((id, key)) => Some((id.into(), PublicKey::from_djb_public_key_bytes(&key)?)),
            None => None,
        };
        Ok(PreKeyBundle::new(
            self.registration,
            1.into(),
            one_time,
            self.signed.id.into(),
            PublicKey::from_djb_public_key_bytes(&self.signed.key)?,
            self.signed.signature.clone(),
            IdentityKey::new(PublicKey::from_djb_public_key_bytes(&self.identity)?),
        )?)
    }

    /// The stored keys, which a client requests after login for a comparison.
    fn digest(&self) -> Node {
        let leaf = |tag: &'static str, bytes: Vec<u8>| NodeBuilder::new(tag).bytes(bytes).build();
        let id = |id: u32| leaf("id", id.to_be_bytes()[1..].to_vec());
        let signed = &self.signed;
        let publics: Vec<&[u8]> = self.one_time.iter().map(|(_, key)| key.as_slice()).collect();
        let hash = wacore::prekeys::compute_key_bundle_digest(&self.identity, &signed.key, &signed.signature, &publics);
        let signed = [id(signed.id), leaf("value", signed.key.clone()), leaf("signature", signed.signature.clone())];
        let ids = self.one_time.iter().map(|(key_id, _)| id(*key_id));
        let parts = [
            leaf("registration", self.registration.to_be_bytes().to_vec()),
            leaf("type", vec![5]),
            leaf("identity", self.identity.clone()),
            NodeBuilder::new("skey").children(signed).build(),
            NodeBuilder::new("list").children(ids).build(),
            leaf("hash", hash.clone()),
        ];
        NodeBuilder::new("digest").children(parts).build()
    }
}

impl State {
    /// Answers a device that uploads, counts or compares its keys, or fetches those of others.
    pub fn about_keys(&mut self, node: &NodeRef<'_>, slot: &Slot) -> Result<Vec<Node>> {
        let about = |tag: &str| node.get_optional_child(tag);
        if let Some(fetched) = about("key") {
            return self.fetch(fetched);
        }
        let device = self.devices.get_mut(slot).context("the device was unlinked")?;
        if let Some(list) = about("list") {
            device.keys = Some(deposited(node, list, device.keys.take())?);
            self.share_key_once(slot);
        } else if about("count").is_some() {
            let count = device.keys.as_ref().map_or(0, UploadedKeys::one_time_left);
            return Ok(vec![NodeBuilder::new("count").attr("value", count.to_string()).build()]);
        } else if about("digest").is_some() {
            return Ok(vec![device.keys.as_ref().context("no keys on record")?.digest()]);
        } else if let Some(rotated) = about("rotate").and_then(|rotate| rotate.get_optional_child("skey")) {
            device.keys.as_mut().context("no keys on record")?.signed = SignedKey::read(rotated);
        }
        Ok(vec![])
    }

    /// The error for a request for these keys.
    pub fn refuses_keys(&self, asked: &NodeRef<'_>) -> Option<u16> {
        let withheld = |user: &NodeRef<'_>| {
            let number = attr(user, "jid").parse().ok().and_then(|jid: Jid| self.number_of(&jid));
            number.is_some_and(|number| self.faults.withheld_keys.contains(&number))
        };
        let withheld = asked.get_children_by_tag("user").any(withheld).then_some(503);
        self.faults.keys_error.or(withheld)
    }

    fn fetch(&mut self, asked: &NodeRef<'_>) -> Result<Vec<Node>> {
        let mut users = Vec::new();
        for user in asked.get_children_by_tag("user") {
            let jid: Jid = attr(user, "jid").parse().map_err(|_| anyhow!("not an address"))?;
            let bundle = if self.number_of(&jid).is_some_and(|number| self.faults.no_devices.contains(&number)) {
                None
            } else if jid.device == 0 {
                self.phone_of(&jid).map(|phone| phone.bundle(&jid)).transpose()?
            } else {
                self.device_bundle(&jid)
            };
            users.push(bundle.map_or_else(|| unknown(jid), PreKeyBundleUserNode::into_node));
        }
        Ok(vec![NodeBuilder::new("list").children(users).build()])
    }

    /// The uploaded keys of a linked device, with the account's signature.
    fn device_bundle(&mut self, jid: &Jid) -> Option<PreKeyBundleUserNode> {
        let slot = Slot { phone: self.number_of(jid)?, device: jid.device };
        let device = self.devices.get_mut(&slot)?;
        let keys = device.keys.as_mut()?;
        let signed = keys.signed.clone();
        Some(PreKeyBundleUserNode {
            jid: jid.clone(),
            registration_id: keys.registration,
            identity_key: keys.identity.clone(),
            signed_pre_key: SignedPreKeyNode::new(signed.id, signed.key, signed.signature),
            one_time_pre_key: keys.pop_one_time().map(|(id, key)| OneTimePreKeyNode::new(id, key)),
            device_identity: device.proof.clone(),
        })
    }
}

/// Later uploads add to the keys, if the device is the same.
fn deposited(node: &NodeRef<'_>, list: &NodeRef<'_>, former: Option<UploadedKeys>) -> Result<UploadedKeys> {
    let identity = content(node.get_optional_child("identity"));
    let mut one_time: Vec<(u32, Vec<u8>)> = list
        .get_children_by_tag("key")
        .map(|key| (number(key.get_optional_child("id")), content(key.get_optional_child("value"))))
        .collect();
    if let Some(former) = former.filter(|former| former.identity == identity) {
        let left: Vec<_> =
            former.one_time.into_iter().filter(|(id, _)| one_time.iter().all(|(new, _)| new != id)).collect();
        one_time.extend(left);
    }
    one_time.sort_by_key(|(id, _)| *id);
    Ok(UploadedKeys {
        registration: number(node.get_optional_child("registration")),
        identity,
        signed: SignedKey::read(node.get_optional_child("skey").context("no signed key")?),
        one_time,
    })
}

fn unknown(jid: Jid) -> Node {
    let error = NodeBuilder::new("error").attr("code", "404").attr("text", "not-found").build();
    NodeBuilder::new("user").attr("jid", jid).children([error]).build()
}
