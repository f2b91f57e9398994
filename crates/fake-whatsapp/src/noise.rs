//! The server's side of the Noise handshakes: XX for a new device, IK for a device that knows our key. The order of the
//! steps mirrors the client's in `wacore::handshake`.

use anyhow::{Context as _, Result, anyhow};
use futures_util::SinkExt as _;
use tokio_websockets::Message;
use wacore::handshake::{NoiseCipher, NoiseHandshake};
use wacore::libsignal::protocol::KeyPair;
use wacore_binary::consts::{NOISE_PATTERN_IK, NOISE_PATTERN_XX, WA_CONN_HEADER};
use waproto::buffa::{Message as _, MessageField};
use waproto::whatsapp as wa;

use crate::network::{Network, rng};
use crate::wire::{Sink, Wire, frame};

/// A connection after its handshake.
pub struct Secured {
    /// The device that logs in, or a request to be linked.
    pub payload: wa::ClientPayload,
    pub from_client: NoiseCipher,
    pub to_client: NoiseCipher,
}

pub async fn handshake(network: &Network, sink: &mut Sink, wire: &mut Wire) -> Result<Secured> {
    let hello = wa::HandshakeMessage::decode_from_slice(&wire.frame().await?)?;
    let hello = hello.client_hello.into_option().context("expected ClientHello")?;
    let theirs = key(&hello.ephemeral.context("no ephemeral key")?)?;
    match (hello.r#static, hello.payload) {
        (Some(sealed_static), Some(sealed_payload)) => {
            known_server(network, sink, theirs, &sealed_static, &sealed_payload).await
        }
        _ => new_server(network, sink, wire, theirs).await,
    }
}

/// IK: the client knows our static key from an earlier session.
async fn known_server(
    network: &Network,
    sink: &mut Sink,
    theirs: [u8; 32],
    sealed_static: &[u8],
    sealed_payload: &[u8],
) -> Result<Secured> {
    let ours = KeyPair::generate(&mut rng());
    let our_ephemeral = public(&ours)?;
    let secret = network.noise.private_key.serialize();
    let mut noise = NoiseHandshake::new(NOISE_PATTERN_IK, &WA_CONN_HEADER)?;
    noise.authenticate(&network.noise_public()?);
    noise.authenticate(&theirs);
    noise.mix_shared_secret(secret, &theirs)?;
    let client_static = key(&noise.decrypt(sealed_static)?)?;
    noise.mix_shared_secret(secret, &client_static)?;
    let payload = noise.decrypt(sealed_payload)?;
    noise.authenticate(&our_ephemeral);
    noise.mix_shared_secret(ours.private_key.serialize(), &theirs)?;
    noise.mix_shared_secret(ours.private_key.serialize(), &client_static)?;
    let encrypted = noise.encrypt(&network.certificate)?;
    send_hello(sink, &our_ephemeral, None, encrypted).await?;
    let (from_client, to_client) = noise.finish()?;
    network.lock().counters.logins_ik += 1;
    Ok(Secured { payload: wa::ClientPayload::decode_from_slice(&payload)?, from_client, to_client })
}

/// XX: the client learns our static key, with the certificate for it.
async fn new_server(network: &Network, sink: &mut Sink, wire: &mut Wire, theirs: [u8; 32]) -> Result<Secured> {
    let ours = KeyPair::generate(&mut rng());
    let our_ephemeral = public(&ours)?;
    let mut noise = NoiseHandshake::new(NOISE_PATTERN_XX, &WA_CONN_HEADER)?;
    noise.authenticate(&theirs);
    noise.authenticate(&our_ephemeral);
    noise.mix_shared_secret(ours.private_key.serialize(), &theirs)?;
    let sealed_static = noise.encrypt(&network.noise_public()?)?;
    noise.mix_shared_secret(network.noise.private_key.serialize(), &theirs)?;
    let sealed_certificate = noise.encrypt(&network.certificate)?;
    send_hello(sink, &our_ephemeral, Some(sealed_static), sealed_certificate).await?;

    let finish = wa::HandshakeMessage::decode_from_slice(&wire.frame().await?)?;
    let finish = finish.client_finish.into_option().context("expected ClientFinish")?;
    let client_static = key(&noise.decrypt(&finish.r#static.context("no static key")?)?)?;
    noise.mix_shared_secret(ours.private_key.serialize(), &client_static)?;
    let payload = noise.decrypt(&finish.payload.context("no payload")?)?;
    let (from_client, to_client) = noise.finish()?;
    network.lock().counters.logins_xx += 1;
    Ok(Secured { payload: wa::ClientPayload::decode_from_slice(&payload)?, from_client, to_client })
}

async fn send_hello(
    sink: &mut Sink,
    ephemeral: &[u8; 32],
    sealed_static: Option<Vec<u8>>,
    payload: Vec<u8>,
) -> Result<()> {
    let hello = wa::HandshakeMessage {
        server_hello: MessageField::some(wa::handshake_message::ServerHello {
            ephemeral: Some(ephemeral.to_vec()),
            r#static: sealed_static,
            payload: Some(payload),
            ..Default::default()
        }),
        ..Default::default()
    };
    sink.send(Message::binary(frame(&hello.encode_to_vec()))).await?;
    Ok(())
}

fn key(bytes: &[u8]) -> Result<[u8; 32]> {
    bytes.try_into().map_err(|_| anyhow!("a key of {} bytes", bytes.len()))
}

fn public(pair: &KeyPair) -> Result<[u8; 32]> {
    key(pair.public_key.public_key_bytes())
}

/// A complete chain (the root signs the intermediate, which signs the leaf, and the leaf names our static key) under our own
/// root, which is returned too. A client with a configurable root verifies it; a client with a fixed root refuses it.
pub fn certificate_chain(leaf_key: &[u8]) -> Result<([u8; 32], Vec<u8>)> {
    let root = KeyPair::generate(&mut rng());
    let middle = KeyPair::generate(&mut rng());
    let leaf = certificate(2, 1, leaf_key, &middle)?;
    let intermediate = certificate(1, 0, middle.public_key.public_key_bytes(), &root)?;
    let chain = wa::CertChain { leaf: MessageField::some(leaf), intermediate: MessageField::some(intermediate) };
    Ok((public(&root)?, chain.encode_to_vec()))
}

fn certificate(serial: u32, issuer: u32, key: &[u8], by: &KeyPair) -> Result<wa::cert_chain::NoiseCertificate> {
    let details = wa::cert_chain::noise_certificate::Details {
        serial: Some(serial),
        issuer_serial: Some(issuer),
        key: Some(key.to_vec()),
        not_before: Some(NOT_BEFORE.into()),
        not_after: Some(NOT_AFTER.into()),
    }
    .encode_to_vec();
    let signature = by.private_key.calculate_signature(&details, &mut rng())?;
    Ok(wa::cert_chain::NoiseCertificate { details: Some(details), signature: Some(signature.to_vec()) })
}

/// The validity of our certificates: from 2020 to 2096, in Unix seconds.
pub const NOT_BEFORE: u32 = 1_600_000_000;
pub const NOT_AFTER: u32 = 4_000_000_000;
