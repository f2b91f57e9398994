//! What changes institutions, keys and channels: the same for the HTTP API and for the command line.

pub mod api_keys;
pub mod channels;
pub mod institutions;
pub mod person;
pub mod secrets;
