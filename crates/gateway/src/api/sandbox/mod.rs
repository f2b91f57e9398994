//! The simulated network: its inbox, and what people do on it.

pub mod clear;
pub mod messages;
pub mod simulate;
