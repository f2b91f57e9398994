//! The driver against a server that simulates WhatsApp on loopback.

mod crash;
mod devices;
mod end;
mod harness;
mod memory;
#[path = "../memory_inbox.rs"]
mod memory_inbox;
#[path = "../memory_rows.rs"]
mod memory_rows;
#[cfg(feature = "danger-loopback")]
mod pair;
mod receive;
mod rows;
mod send;
