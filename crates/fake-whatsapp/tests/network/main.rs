//! The network as whatsapp-rust sees it, over real sockets.

mod baileys;
mod faults;
mod harness;
#[cfg(feature = "danger-loopback")]
mod linking;
mod messages;
mod program;
mod receiving;
mod sessions;
