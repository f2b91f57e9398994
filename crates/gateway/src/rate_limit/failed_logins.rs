//! Limits failed authentications.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use recado_domain::clock::Millis;
use recado_domain::rate_limit::{Bucket, Quota};

/// The most addresses that are counted at a time.
const ADDRESSES: usize = 10_000;

/// Limits failed authentications by the client's address.
pub struct FailedLogins {
    a_minute: u32,
    addresses: Mutex<HashMap<IpAddr, Bucket>>,
}

impl FailedLogins {
    /// Permits so many failures a minute for each address.
    pub fn new(a_minute: u32) -> Self {
        Self { a_minute, addresses: Mutex::default() }
    }

    /// Whether the address has reached the limit.
    pub fn is_exhausted(&self, address: IpAddr, now: Millis) -> bool {
        self.exhausted_for(address, now).is_some()
    }

    /// If the address has reached the limit: the seconds until it may fail again.
    pub fn exhausted_for(&self, address: IpAddr, now: Millis) -> Option<u64> {
        let addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        addresses.get(&network_of(address))?.empty_for(now)
    }

    /// Records a failure. The quota says whether the address has reached the limit.
    pub fn record(&self, address: IpAddr, now: Millis) -> Option<Quota> {
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let network = network_of(address);
        if addresses.len() >= ADDRESSES && !addresses.contains_key(&network) {
            addresses.retain(|_, bucket| !bucket.is_full(now));
            if addresses.len() >= ADDRESSES {
                // An attack from many addresses: bounded memory is more important than old counts.
                addresses.clear();
            }
        }
        addresses.entry(network).or_insert_with(|| Bucket::new(Some(self.a_minute))).acquire(now)
    }
}

/// One subscriber has a whole /64 of IPv6, which counts as one address.
pub fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::from((v6.to_bits() >> 64 << 64).to_be_bytes()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_counted_by_address_and_by_ipv6_network() {
        let failed = FailedLogins::new(2);
        let record = |address: &str| failed.record(address.parse().unwrap(), 1_000_000).unwrap().allowed;
        assert!(record("192.0.2.1") && record("::ffff:192.0.2.1"));
        assert!(failed.is_exhausted("192.0.2.1".parse().unwrap(), 1_000_000));
        assert!(!failed.is_exhausted("192.0.2.1".parse().unwrap(), 1_060_000));
        assert!(!record("192.0.2.1"));
        assert!(record("192.0.2.2"));
        assert!(record("2001:db8::1") && record("2001:db8::2:1"));
        assert!(!record("2001:db8::ffff"));
    }

    #[test]
    fn counted_addresses_are_bounded() {
        let failed = FailedLogins::new(2);
        for number in 0..25_000_u32 {
            failed.record(IpAddr::from(number.to_be_bytes()), 1_000_000);
        }
        assert!(failed.addresses.lock().unwrap().len() <= ADDRESSES);
    }
}
