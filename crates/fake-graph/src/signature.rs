//! The signature of Meta's callbacks.

use std::fmt::Write;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The value of `X-Hub-Signature-256`: `sha256=` and the HMAC-SHA256 of the raw body with the app secret, in lower-case hex.
/// For tests that post their own body.
pub fn signature(app_secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(app_secret.as_bytes()).expect("HMAC takes a key of any length");
    mac.update(body);
    mac.finalize().into_bytes().iter().fold(String::from("sha256="), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String accepts any text");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::signature;

    /// Test case 2 of RFC 4231.
    #[test]
    fn the_signature_matches_the_rfc() {
        assert_eq!(
            signature("Jefe", b"what do ya want for nothing?"),
            "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }
}
