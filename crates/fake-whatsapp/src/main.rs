//! The network as a separate process, for clients that are not written in Rust: `fake-whatsapp [ADDRESS] [CONTROL_ADDRESS]`,
//! both on loopback, each on a free port if it is omitted. The first output line is JSON with its addresses.
//!
//! `control.rs` describes the control port.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use fake_whatsapp::{FakeWhatsApp, control};
use serde_json::json;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut addresses = std::env::args().skip(1).map(|given| {
        given.parse::<SocketAddr>().with_context(|| format!("not an address like 127.0.0.1:7701: {given:?}"))
    });
    let mut next = || addresses.next().unwrap_or(Ok(([127, 0, 0, 1], 0).into()));
    let (network, control) = (next()?, next()?);
    ensure!(addresses.next().is_none(), "usage: fake-whatsapp [ADDRESS] [CONTROL_ADDRESS]");
    ensure!(control.ip().is_loopback(), "{control} is not an address of loopback: this network is for tests only");

    let whatsapp = Arc::new(FakeWhatsApp::start_at(network)?);
    whatsapp.start_trace();
    let listener = tokio::net::TcpListener::bind(control).await?;
    let mut first = control::info(&whatsapp);
    first["control"] = json!(format!("http://{}", listener.local_addr()?));
    println!("{first}");
    Ok(axum::serve(listener, control::router(whatsapp)).await?)
}
