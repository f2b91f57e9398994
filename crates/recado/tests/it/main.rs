//! Black-box tests: the real binary, real files, real sockets on loopback.
//!
//! All tests are in one binary, because a test run waits mostly for linking. Modules mirror the tested parts, and the tests
//! of a route are at the path of its URL (`v1/...`).

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
mod metrics;
mod night;
mod nul;
mod numbers;
mod openapi;
mod receiver;
mod references;
mod restart;
mod seed;
mod slow;
mod systemd;
mod trace;
mod v1;
mod webhooks;
#[cfg(feature = "danger-loopback")]
mod whatsapp_web;
