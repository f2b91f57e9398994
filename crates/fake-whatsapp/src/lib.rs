//! A WhatsApp Web server on loopback.
pub mod phone;
pub mod server;
