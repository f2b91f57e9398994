//! Linking a device: the codes that it shows, and the phone's signature.

use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use base64ct::{Base64, Encoding as _};
use wacore::handshake::NoiseCipher;
use wacore::libsignal::crypto::hmac_sha256;
use wacore::pair::PairUtils;
use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Jid, Node};
use waproto::buffa::Message as _;
use waproto::whatsapp as wa;

use crate::clock::unix_seconds;
use crate::login::result;
use crate::network::{Connection, Device, Network, Slot, State, rng};
use crate::stanza::{HOST, attr, brief, content};
use crate::wire::Wire;
use crate::{Account, pair_code};

/// The default number of codes that a connection may show in sequence.
const CODES: usize = 6;

/// The prefix of an account's signature over a device's identity (`ADV_PREFIX_ACCOUNT_SIGNATURE` of the client).
const ACCOUNT_SIGNATURE: [u8; 2] = [6, 0];

/// Handles a connection that wants to be linked.
pub async fn converse(
    network: &Arc<Network>,
    wire: &mut Wire,
    key: &NoiseCipher,
    connection: &Connection,
) -> Result<()> {
    network.lock().offer_codes(connection);
    loop {
        let bytes = wire.stanza(key).await?;
        let node = wacore_binary::marshal::unmarshal_ref(&bytes)?;
        tracing::debug!(stanza = brief(&node), "received while linking");
        // A client that receives nothing for a while assumes that the connection is dead.
        if attr(&node, "xmlns") == "w:p" {
            connection.send(result(&attr(&node, "id")).build());
        }
        if let Some(step) = node.get_optional_child("link_code_companion_reg") {
            pair_code::step(&mut network.lock(), &attr(&node, "id"), step, connection)?;
        }
        if let Some(signed) = node.get_optional_child("pair-device-sign") {
            network.lock().confirm_link(connection, content(signed.get_optional_child("device-identity")));
            // The real network closes the stream here too, and the device logs in.
            connection.send(NodeBuilder::new("stream:error").attr("code", "515").build());
            return Ok(());
        }
    }
}

impl State {
    fn offer_codes(&mut self, connection: &Connection) {
        let mut references = Vec::new();
        for _ in 0..self.faults.codes.unwrap_or(CODES) {
            let reference = format!("2@{}", self.next_id("REF"));
            references.push(NodeBuilder::new("ref").bytes(reference.clone().into_bytes()).build());
            self.codes_shown.insert(reference, connection.clone());
        }
        let offer = NodeBuilder::new("iq")
            .attr("from", HOST)
            .attr("type", "set")
            .attr("xmlns", "md")
            .attr("id", self.next_id("PAIR"))
            .children([NodeBuilder::new("pair-device").children(references).build()]);
        connection.send(offer.build());
    }

    /// The phone scans a QR code.
    pub fn scan(&mut self, qr: &str, account: &Account) -> Result<()> {
        let (reference, _, identity) = PairUtils::parse_qr_code(qr)?;
        let secret = qr.split(',').nth(3).context("no secret in the code")?;
        let secret = Base64::decode_vec(secret).map_err(|e| anyhow!("the secret in the code: {e}"))?;
        let connection = self.codes_shown.remove(&reference).context("this code is not shown any more")?;
        self.link(account, &identity, &secret, &connection)
    }

    /// Notifies a device that it is linked.
    pub fn link(
        &mut self,
        account: &Account,
        identity: &[u8; 32],
        secret: &[u8],
        connection: &Connection,
    ) -> Result<()> {
        let container = self.add_device(account, identity, secret)?;
        let slot = account.slot();
        self.linking.push((connection.clone(), slot.clone()));
        let device = NodeBuilder::new("device")
            .attr("jid", Jid::pn_device(slot.phone.as_str(), slot.device))
            .attr("lid", Jid::lid_device(account.lid.as_str(), slot.device));
        let success = NodeBuilder::new("pair-success").children([
            NodeBuilder::new("device-identity").bytes(container).build(),
            device.build(),
            NodeBuilder::new("platform").attr("name", "android").build(),
            NodeBuilder::new("biz").attr("name", account.name.as_str()).build(),
        ]);
        let notification: Node = NodeBuilder::new("iq")
            .attr("from", HOST)
            .attr("type", "set")
            .attr("id", self.next_id("PAIR"))
            .children([success.build()])
            .build();
        connection.send(notification);
        Ok(())
    }

    /// Adds a device to the account, and returns the account's signature of its identity.
    pub fn add_device(&mut self, account: &Account, identity: &[u8; 32], secret: &[u8]) -> Result<Vec<u8>> {
        let container = self.sign_identity(account, identity, secret)?;
        let slot = account.slot();
        let former = self.devices.insert(slot.clone(), Device::new(&slot, &account.lid));
        if let Some(connection) = former.and_then(|former| former.connection) {
            connection.close();
        }
        Ok(container)
    }

    /// The phone signs the device's identity, and authenticates the whole with the secret of the code.
    fn sign_identity(&mut self, account: &Account, identity: &[u8; 32], secret: &[u8]) -> Result<Vec<u8>> {
        let phone = self.add_person(&account.phone, &account.lid)?;
        let details = wa::ADVDeviceIdentity {
            raw_id: Some(7),
            timestamp: Some(unix_seconds()),
            key_index: Some(u32::from(account.device)),
            ..Default::default()
        }
        .encode_to_vec();
        let signed_over = [&ACCOUNT_SIGNATURE[..], &details, identity].concat();
        let signature = phone.identity().private_key().calculate_signature(&signed_over, &mut rng())?;
        let signed = wa::ADVSignedDeviceIdentity {
            details: Some(details),
            account_signature_key: Some(phone.identity().public_key().public_key_bytes().to_vec()),
            account_signature: Some(signature.to_vec()),
            ..Default::default()
        }
        .encode_to_vec();
        let hmac = hmac_sha256(secret, &signed).to_vec();
        let container =
            wa::ADVSignedDeviceIdentityHMAC { details: Some(signed), hmac: Some(hmac), ..Default::default() };
        Ok(container.encode_to_vec())
    }

    /// The device has signed too, and is linked.
    fn confirm_link(&mut self, connection: &Connection, proof: Vec<u8>) {
        let Some(at) = self.linking.iter().position(|(linking, _)| linking.is(connection)) else { return };
        let (_, slot): (Connection, Slot) = self.linking.remove(at);
        if let Some(device) = self.devices.get_mut(&slot) {
            device.proof = Some(proof);
        }
    }
}
