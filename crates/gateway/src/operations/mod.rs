//! Operations that change institutions, keys and channels, shared by the HTTP API and the command line.

pub mod api_keys;
pub mod channels;
pub mod erasure;
pub mod institutions;
pub mod person;
pub mod secrets;
