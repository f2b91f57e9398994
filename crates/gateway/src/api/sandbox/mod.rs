//! The sandbox's phone.

pub mod clear;
pub mod messages;
