//! Black-box tests: the real binary, real files, real sockets on loopback.
//!
//! One binary for all of them, because linking is what a test run waits for. Modules mirror what they show, and the
//! tests of a route live where its URL says (`v1/...`).

mod architecture;
mod cli;
mod cloud_api;
mod cluster;
mod cors;
mod deletion;
mod disconnect;
mod disk;
mod docs;
mod harness;
mod health;
mod isolation;
mod kill;
mod load;
mod log;
mod nul;
mod numbers;
mod openapi;
mod seed;
mod slow;
mod trace;
mod v1;
#[cfg(feature = "danger-loopback")]
mod whatsapp_web;
