//! Public ids that name a number of the store.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::clock::Millis;
use crate::ids::InvalidId;

/// A time, a number, and the beginning of a hash of both with whatever else the id belongs to. So the id is the same on
/// every read, and a number that a restored backup gives again makes another id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NumberedId([u8; 16]);

impl NumberedId {
    /// `label` keeps the ids of different things apart. `of` is what else the id belongs to.
    pub(crate) fn new(label: &[u8], number: i64, at: Millis, of: &[&[u8]]) -> Self {
        let hash = Sha256::new().chain_update(label).chain_update(number.to_be_bytes()).chain_update(at.to_be_bytes());
        let hash = of.iter().fold(hash, Digest::chain_update).finalize();
        let mut id = [0; 16];
        id[..6].copy_from_slice(&at.to_be_bytes()[2..]);
        id[6..12].copy_from_slice(&number.to_be_bytes()[2..]);
        id[12..].copy_from_slice(&hash[..4]);
        Self(id)
    }

    /// The number. Any text of the right form is accepted as an id, so the caller compares the whole id with that of the
    /// thing that has this number.
    pub(crate) fn number(self) -> i64 {
        let mut bytes = [0; 8];
        bytes[2..].copy_from_slice(&self.0[6..12]);
        i64::from_be_bytes(bytes)
    }

    /// Writes the prefix and 32 hexadecimal digits.
    pub(crate) fn write(self, prefix: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(prefix)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }

    /// Reads what [`write`](Self::write) wrote.
    ///
    /// # Errors
    ///
    /// The text has another form.
    pub(crate) fn parse(prefix: &str, text: &str) -> Result<Self, InvalidId> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let digits = text.strip_prefix(prefix).filter(|digits| digits.len() == 32 && digits.bytes().all(is_digit));
        let id = digits.and_then(|digits| u128::from_str_radix(digits, 16).ok()).ok_or(InvalidId)?;
        Ok(Self(id.to_be_bytes()))
    }
}
