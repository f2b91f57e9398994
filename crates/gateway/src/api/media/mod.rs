//! The files of received messages.

pub mod content;
mod headers;
