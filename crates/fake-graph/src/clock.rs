//! The network's own clock, which dates its callbacks. No test needs to move it.

/// Now, in Unix seconds.
#[expect(clippy::disallowed_methods, reason = "the network is outside the gateway, and so is its clock")]
pub fn unix_seconds() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs()
}
