//! Keys of several parts. The length precedes each part but the last, so that different keys have different bytes, and the
//! rows with the same first part share a prefix.

use std::str;

pub fn of(parts: &[&[u8]]) -> Vec<u8> {
    let Some((last, leading)) = parts.split_last() else { return Vec::new() };
    let mut key = leading.iter().fold(Vec::new(), |mut key, part| {
        push(&mut key, part);
        key
    });
    key.extend_from_slice(last);
    key
}

/// The prefix of every key of several parts with this first part.
pub fn prefix(first: &[u8]) -> Vec<u8> {
    let mut key = Vec::new();
    push(&mut key, first);
    key
}

/// The last part of a key of two parts, as text.
pub fn second(key: &[u8]) -> Option<&str> {
    let (length, rest) = key.split_first_chunk::<4>()?;
    let last = rest.get(u32::from_be_bytes(*length) as usize..)?;
    str::from_utf8(last).ok()
}

fn push(key: &mut Vec<u8>, part: &[u8]) {
    key.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
    key.extend_from_slice(part);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_into_each_other() {
        assert_ne!(of(&[b"ab", b"c"]), of(&[b"a", b"bc"]));
        assert!(of(&[b"ab", b"c"]).starts_with(&prefix(b"ab")));
        assert!(!of(&[b"abc", b"c"]).starts_with(&prefix(b"ab")));
        assert_eq!(second(&of(&[b"group", b"device"])), Some("device"));
        assert_eq!(second(b"abc"), None);
    }
}
