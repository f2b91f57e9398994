//! Linking by phone number: the device shows eight characters, and the person types them on the phone. Both sides derive
//! their keys from them. The phone's half here mirrors the device's in `wacore::pair_code`.

use anyhow::{Context as _, Result, anyhow, ensure};
use wacore::crypto::hkdf_sha256;
use wacore::libsignal::crypto::aes_256_gcm_decrypt;
use wacore::libsignal::protocol::{KeyPair, PublicKey};
use wacore::pair_code::PairCodeUtils;
use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Jid, NodeRef};

use crate::Account;
use crate::faults::spend;
use crate::login::result;
use crate::network::{Connection, Network, State, rng};
use crate::stanza::{HOST, attr, content};

/// A device that shows a code.
pub struct CodeOffer {
    number: String,
    reference: Vec<u8>,
    /// The device's ephemeral key, encrypted with the code.
    wrapped: Vec<u8>,
    pub connection: Connection,
    typed: Option<Typed>,
}

/// The phone's state after the code was typed, until the device answers.
struct Typed {
    account: Account,
    ephemeral: KeyPair,
    theirs: [u8; 32],
}

/// Handles a step of the device.
pub fn step(state: &mut State, id: &str, step: &NodeRef<'_>, connection: &Connection) -> Result<()> {
    match (attr(step, "stage").as_str(), state.faults.phone_code_error) {
        ("companion_hello", _) if spend(&mut state.faults.swallow_phone_codes) => {}
        ("companion_hello", Some(code)) => {
            let error = NodeBuilder::new("error").attr("code", code.to_string()).attr("text", "bad-request").build();
            let reply = NodeBuilder::new("iq").attr("from", HOST).attr("id", id).attr("type", "error");
            connection.send(reply.children([error]).build());
        }
        ("companion_hello", None) => {
            let jid: Jid = attr(step, "jid").parse().map_err(|_| anyhow!("a code for no number"))?;
            let reference = state.next_id("CODEREF").into_bytes();
            let body = NodeBuilder::new("link_code_companion_reg")
                .attr("stage", "companion_hello")
                .children([NodeBuilder::new("link_code_pairing_ref").bytes(reference.clone()).build()]);
            connection.send(result(id).children([body.build()]).build());
            state.code_offers.push(CodeOffer {
                number: jid.user.to_string(),
                reference,
                wrapped: content(step.get_optional_child("link_code_pairing_wrapped_companion_ephemeral_pub")),
                connection: connection.clone(),
                typed: None,
            });
        }
        ("companion_finish", _) => {
            connection.send(result(id).build());
            let reference = content(step.get_optional_child("link_code_pairing_ref"));
            let bundle = content(step.get_optional_child("link_code_pairing_wrapped_key_bundle"));
            let offers = &mut state.code_offers;
            let offer = offers.iter_mut().find(|offer| offer.reference == reference);
            let offer = offer.context("a code that was not shown")?;
            let typed = offer.typed.take().context("a code that was not typed")?;
            match state.open_bundle(&typed, &bundle) {
                Ok((identity, secret)) => {
                    state.code_offers.retain(|offer| offer.reference != reference);
                    state.link(&typed.account, &identity, &secret, connection)?;
                }
                // The phone shows an error to its owner, and the device is not notified.
                Err(_) => state.counters.wrong_codes += 1,
            }
        }
        (other, _) => tracing::debug!(other, "a step of linking that is not known"),
    }
    Ok(())
}

impl State {
    /// The device's identity, and the derived secret.
    fn open_bundle(&mut self, typed: &Typed, bundle: &[u8]) -> Result<([u8; 32], Vec<u8>)> {
        ensure!(bundle.len() > 44, "a bundle of {} bytes", bundle.len());
        let (salt, rest) = bundle.split_at(32);
        let (nonce, encrypted) = rest.split_at(12);
        let theirs = PublicKey::from_djb_public_key_bytes(&typed.theirs)?;
        let shared = typed.ephemeral.private_key.calculate_agreement(&theirs)?;
        let key = hkdf_sha256(&shared, 32, Some(salt), b"link_code_pairing_key_bundle_encryption_key")?;
        let key: [u8; 32] = key.try_into().map_err(|_| anyhow!("a key of another length"))?;
        let mut plain = Vec::new();
        aes_256_gcm_decrypt(&key, nonce.try_into()?, b"", encrypted, &mut plain)
            .map_err(|e| anyhow!("the bundle does not open: {e:?}"))?;
        ensure!(plain.len() == 96, "a bundle with {} bytes inside", plain.len());
        let identity: [u8; 32] = plain[..32].try_into()?;
        let phone = self.add_person(&typed.account.phone, &typed.account.lid)?;
        let companion = PublicKey::from_djb_public_key_bytes(&identity)?;
        let identities = phone.identity().private_key().calculate_agreement(&companion)?;
        let secrets = [&shared[..], &identities[..], &plain[64..]].concat();
        Ok((identity, hkdf_sha256(&secrets, 32, None, b"adv_secret")?))
    }
}

/// The person types a code on the phone. It takes a moment, because two key derivations are slow on purpose.
pub fn type_code(network: &Network, code: &str, account: &Account) -> Result<()> {
    let code: String = code.chars().filter(|c| *c != '-').map(|c| c.to_ascii_uppercase()).collect();
    ensure!(PairCodeUtils::validate_code(&code), "not a code of eight characters: {code:?}");
    let wrapped = network.lock().offer_for(&account.phone)?.wrapped.clone();
    let theirs = PairCodeUtils::decrypt_primary_ephemeral_pub(&wrapped, &code)?;
    let ephemeral = KeyPair::generate(&mut rng());
    let public: [u8; 32] = ephemeral.public_key.public_key_bytes().try_into()?;
    let ours = PairCodeUtils::encrypt_ephemeral_pub(&public, &code);

    let mut state = network.lock();
    let id = state.next_id("CODE");
    let identity = state.add_person(&account.phone, &account.lid)?.identity().public_key().public_key_bytes().to_vec();
    let offer = state.offer_for(&account.phone)?;
    offer.typed = Some(Typed { account: account.clone(), ephemeral, theirs });
    let leaf = |tag: &'static str, bytes: Vec<u8>| NodeBuilder::new(tag).bytes(bytes).build();
    let hello = NodeBuilder::new("link_code_companion_reg").attr("stage", "primary_hello").children([
        leaf("link_code_pairing_wrapped_primary_ephemeral_pub", ours.to_vec()),
        leaf("primary_identity_pub", identity),
        leaf("link_code_pairing_ref", offer.reference.clone()),
    ]);
    let notification = NodeBuilder::new("notification")
        .attr("from", HOST)
        .attr("type", "link_code_companion_reg")
        .attr("id", id)
        .children([hello.build()]);
    offer.connection.send(notification.build());
    Ok(())
}

impl State {
    /// The newest device that shows a code for this number.
    fn offer_for(&mut self, number: &str) -> Result<&mut CodeOffer> {
        let offers = self.code_offers.iter_mut().rev();
        offers
            .into_iter()
            .find(|offer| offer.number == number)
            .with_context(|| format!("no device asks to be linked to {number}"))
    }
}
