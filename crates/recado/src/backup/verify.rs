//! The check of a backup, before it is needed.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use recado_gateway::gateway::{SANDBOX_FILE, STORE_FILE};
use recado_providers::sandbox::network::SCHEMA_VERSION as SANDBOX_VERSION;
use recado_store::sqlite::SCHEMA_VERSION;
use recado_store::sqlite::copy::check;
use recado_store::sqlkit::sqlite::open_read_only;
use serde_json::{Value, json};

use crate::backup::manifest::{Copied, Manifest, counts, identity};
use crate::backup::{FILES, UNFINISHED};

/// Checks that the files of a backup belong together, are as they were made, and can be opened by this build.
pub fn verify(dir: &Path) -> Result<Manifest> {
    let manifest = Manifest::read(dir)?;
    ensure!(manifest.files.contains_key(STORE_FILE), "the backup in {} has no store", dir.display());
    for entry in dir.read_dir().with_context(|| format!("cannot read {}", dir.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        // A log beside a copy would be used as its log.
        // What a killed backup left after its last file had got its name is no part of it.
        let is_file = FILES.iter().any(|file| name.starts_with(file)) && name != UNFINISHED;
        if is_file && !manifest.files.contains_key(&name) {
            bail!(
                "{} does not belong to this backup: files of different copies must not be mixed",
                dir.join(name).display()
            );
        }
    }
    for (name, recorded) in &manifest.files {
        verify_file(&dir.join(name), name, recorded)?;
    }
    let store = open_read_only(&dir.join(STORE_FILE))?;
    // The hashes were right, so a difference is an error of the backup itself.
    ensure!(identity(&store)? == manifest.store, "the store in {} has another identity than recorded", dir.display());
    let found = counts(&store)?;
    ensure!(found == manifest.contents, "{} contains {found:?}, and not {:?}", dir.display(), manifest.contents);
    Ok(manifest)
}

fn verify_file(path: &Path, name: &str, recorded: &Copied) -> Result<()> {
    let shown = path.display();
    let built = match name {
        STORE_FILE => SCHEMA_VERSION,
        SANDBOX_FILE => SANDBOX_VERSION,
        _ => bail!("this version of Recado knows no file {shown}"),
    };
    let found = Copied::of(path).with_context(|| format!("cannot read {shown}"))?;
    if found.bytes != recorded.bytes || found.sha256 != recorded.sha256 {
        bail!("{shown} is not the file that the backup made: it was changed or damaged since, or is of another backup");
    }
    open_file(path, built)
}

/// Checks that a file is whole, and that this build can read it.
pub fn open_file(path: &Path, built: usize) -> Result<()> {
    let shown = path.display();
    let file = open_read_only(path).with_context(|| format!("cannot open {shown}"))?;
    let found = check(&file, "integrity_check").with_context(|| format!("cannot read {shown}"))?;
    ensure!(found == "ok", "{shown} is damaged: {found}");
    let version = recado_store::sqlite::contents::version(&file)?;
    ensure!(
        usize::try_from(version).is_ok_and(|version| version <= built),
        "{shown} has version {version}, this build's is {built}: use the Recado that made it, or a newer one"
    );
    Ok(())
}

/// What a check prints.
pub fn report(dir: &Path, manifest: &Manifest) -> Value {
    let files = manifest.files.iter().map(|(name, file)| (name.clone(), json!(file.bytes)));
    json!({
        "verified": dir.display().to_string(),
        "madeAt": manifest.made_at,
        "files": files.collect::<Value>(),
        "contents": manifest.contents,
        "secretKeys": manifest.secret_keys,
    })
}
