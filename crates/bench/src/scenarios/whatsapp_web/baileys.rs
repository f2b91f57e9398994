//! As many sockets of Baileys, the library of most gateways of this kind, in one Node process on the same network.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use fake_whatsapp::{FakeWhatsApp, control};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::Setting;

const SCRIPTS: [(&str, &str); 2] = [
    ("mem.mjs", include_str!("../../../../fake-whatsapp/clients/baileys/mem.mjs")),
    ("control.mjs", include_str!("../../../../fake-whatsapp/clients/baileys/control.mjs")),
];

/// Megabytes for each further idle socket, after one card; `None` if Baileys is not installed.
pub async fn measure(setting: &Setting, network: &Arc<FakeWhatsApp>, (few, many): (u64, u64)) -> Result<Option<f64>> {
    let packages = setting.baileys.as_ref().map(|folder| folder.join("node_modules"));
    let Some(packages) = packages.filter(|packages| packages.join("baileys").is_dir()) else { return Ok(None) };
    let folder = with_packages(&packages)?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let control = format!("http://{}", listener.local_addr()?);
    let serving = tokio::spawn(axum::serve(listener, control::router(network.clone())).into_future());
    let mut node = Command::new("node");
    node.current_dir(&folder).args(["--expose-gc", "mem.mjs", &control, &many.to_string(), &few.to_string()]);
    let done = node.kill_on_drop(true).output().await.context("cannot run node")?;
    serving.abort();
    ensure!(done.status.success(), "Baileys failed: {}", String::from_utf8_lossy(&done.stderr));
    let measured: Value = serde_json::from_slice(&done.stdout)?;
    let kibibytes = measured["each_further_kib"].as_f64().with_context(|| format!("no figure in {measured}"))?;
    Ok(Some(kibibytes * 1_024.0 / 1e6))
}

/// Node looks for packages beside the script.
fn with_packages(packages: &Path) -> Result<TempDir> {
    let folder = tempfile::tempdir()?;
    for (name, script) in SCRIPTS {
        std::fs::write(folder.path().join(name), script)?;
    }
    symlink(packages.canonicalize()?, folder.path().join("node_modules"))?;
    Ok(folder)
}
