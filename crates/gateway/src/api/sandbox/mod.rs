//! The sandbox inbox.

pub mod clear;
pub mod messages;
