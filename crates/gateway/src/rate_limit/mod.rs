//! Rate limits, which protect the API. (Pacing, which protects a WhatsApp number, is in the dispatcher.)

mod failed_logins;
mod key_limit;

use std::net::IpAddr;

pub use failed_logins::{FailedLogins, network_of};
pub use key_limit::{Calls, KeyLimit};

/// The client's address, put on each request by the server.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);
