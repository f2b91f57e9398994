//! Signatures of deliveries, by the Standard Webhooks specification (version 1, symmetric keys).

use std::fmt;

use base64ct::{Base64, Encoding};
use hmac::{Hmac, KeyInit, Mac};
use recado_domain::clock::{Entropy, secret};
use sha2::Sha256;

/// The header with the id of the event.
pub const ID_HEADER: &str = "webhook-id";
/// The header with the time of the attempt, in Unix seconds.
pub const TIMESTAMP_HEADER: &str = "webhook-timestamp";
/// The header with the signatures.
pub const SIGNATURE_HEADER: &str = "webhook-signature";

/// The prefix of a secret whose key is base64.
const PREFIX: &str = "whsec_";
/// Characters of a secret.
const LENGTHS: std::ops::RangeInclusive<usize> = 16..=256;

/// The key of a secret.
#[derive(Clone)]
pub struct SigningKey(Vec<u8>);

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey")
    }
}

impl SigningKey {
    /// The key of a secret: the bytes that the base64 after `whsec_` encodes, or the bytes of any other text. Here a
    /// `whsec_` without valid base64 counts as another text, but [`secret_is_valid`] refuses it.
    pub fn of_secret(secret: &str) -> Self {
        Self(encoded(secret).and_then(Result::ok).unwrap_or_else(|| secret.as_bytes().to_vec()))
    }
}

/// The bytes that a secret with the prefix encodes. `None` without the prefix.
fn encoded(secret: &str) -> Option<Result<Vec<u8>, base64ct::Error>> {
    secret.strip_prefix(PREFIX).map(Base64::decode_vec)
}

/// Whether a text can be a secret: 16 to 256 printable characters, and padded base64 after `whsec_`. The libraries of
/// receivers refuse a `whsec_` that is not base64.
pub fn secret_is_valid(secret: &str) -> bool {
    secret_is_readable(secret) && encoded(secret).is_none_or(|key| key.is_ok_and(|key| !key.is_empty()))
}

/// Whether a text has the length and the characters of a secret.
pub fn secret_is_readable(secret: &str) -> bool {
    LENGTHS.contains(&secret.chars().count()) && !secret.chars().any(char::is_control)
}

/// A new secret, of 32 random bytes.
pub fn new_secret(entropy: &dyn Entropy) -> String {
    format!("{PREFIX}{}", Base64::encode_string(&secret::<32>(entropy)))
}

/// The header `webhook-signature` of a body: a signature for each key, in the order of the keys.
///
/// `id` is the id of the event, `timestamp` the time of this attempt in Unix seconds. The receiver compares the timestamp with its
/// clock, so a recorded request cannot be repeated later.
pub fn sign(keys: &[SigningKey], id: &str, timestamp: i64, body: &[u8]) -> String {
    let signature = |key: &SigningKey| {
        let mut mac = Hmac::<Sha256>::new_from_slice(&key.0).expect("a key of any length will do");
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        format!("v1,{}", Base64::encode_string(&mac.finalize().into_bytes()))
    };
    keys.iter().map(signature).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use recado_store::clock::SystemEntropy;

    use super::*;

    /// The example of the specification.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    #[test]
    fn the_example_of_the_specification_is_signed() {
        let key = SigningKey::of_secret(SECRET);
        assert_eq!(sign(std::slice::from_ref(&key), ID, 1_614_265_330, BODY), SIGNATURE);
        let former = SigningKey::of_secret("a secret of another form");
        let both = sign(&[key, former.clone()], ID, 1_614_265_330, BODY);
        assert_eq!(both, format!("{SIGNATURE} {}", sign(&[former], ID, 1_614_265_330, BODY)));
        assert_eq!(format!("{:?}", SigningKey::of_secret(SECRET)), "SigningKey");
    }

    #[test]
    fn the_bytes_of_another_secret_are_its_key() {
        let key = SigningKey::of_secret("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        assert_eq!(key.0, b"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        assert_ne!(sign(&[key], ID, 1_614_265_330, BODY), SIGNATURE);
        assert_eq!(SigningKey::of_secret("whsec_AAEC").0, [0, 1, 2]);
    }

    #[test]
    fn secrets_have_a_length_and_a_form() {
        let (first, second) = (new_secret(&SystemEntropy), new_secret(&SystemEntropy));
        assert_ne!(first, second);
        for valid in [SECRET, &first, "0123456789abcdef", "ação de um segredo", &"x".repeat(256)] {
            assert!(secret_is_valid(valid), "{valid}");
        }
        assert_eq!(SigningKey::of_secret(&first).0.len(), 32);
        let long = "x".repeat(257);
        for invalid in
            ["", "0123456789abcde", &long, "0123456789\nabcdef", "whsec_0123456789", "whsec_MfKQ9r8GKYqrTw-_UPD8ILPZ"]
        {
            assert!(!secret_is_valid(invalid), "{invalid}");
        }
    }
}
