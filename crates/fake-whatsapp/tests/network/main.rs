//! The network as whatsapp-rust sees it, over real sockets.

mod faults;
mod harness;
#[cfg(feature = "danger-loopback")]
mod linking;
mod messages;
mod sessions;
