//! What is in the store or in files is read in the background, and only while something scrapes: an idle server does not poll.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use recado_domain::clock::Millis;
use recado_domain::webhook::WebhookBacklog;
use recado_store::StoreError;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::channels::{self, Channels};
use crate::directory::KeyEntry;
use crate::gateway::{Gateway, STORE_FILE};
use crate::last_backup::{self, LastBackup};
use crate::metrics::{METRICS, Metrics, OfKey, OfWebhook, seconds};

/// The shortest time between two reads of the store.
const PAUSE: Duration = Duration::from_secs(5);
/// The time between two reads is this many times their duration, so that they use little of the store.
const SHARE: u32 = 20;
/// The longest time between two reads.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// Webhooks that have series of their own.
const WEBHOOKS: usize = 1_000;
/// Keys that have series of their own.
const KEYS: usize = 1_000;

/// Reads what is sampled.
pub struct Sampler {
    gateway: Arc<Gateway>,
    /// The most channels that have series of their own.
    most: usize,
    data_dir: PathBuf,
    scraped: Notify,
}

/// A sample.
struct Sample {
    channels: Channels,
    /// `None`: they could not be counted, and the former values stay.
    webhooks: Option<Vec<WebhookBacklog>>,
    /// The keys that end, those that end first.
    keys: Vec<Arc<KeyEntry>>,
    now: Millis,
}

impl Sampler {
    pub fn new(gateway: Arc<Gateway>, most: usize, data_dir: PathBuf) -> Self {
        Self { gateway, most, data_dir, scraped: Notify::new() }
    }

    /// Something has scraped: the next scrape should get fresh values.
    pub fn scraped(&self) {
        self.scraped.notify_one();
    }

    /// Reads for each scrape, but not too often.
    pub async fn run(&self) {
        // The first read is for the first scrape.
        loop {
            let began = Instant::now();
            // First: they count most when the store fails, as on a full disk.
            self.set_files().await;
            match self.read().await {
                Ok(sample) => {
                    let most = self.most;
                    // With thousands of channels this takes milliseconds, in which a task must not hold its thread.
                    drop(
                        tokio::task::spawn_blocking(move || METRICS.replace(|metrics| set(metrics, &sample, most)))
                            .await,
                    );
                }
                Err(error) => tracing::debug!(%error, "channels not read for metrics; the next scrape tries again"),
            }
            sleep((began.elapsed() * SHARE).clamp(PAUSE, LONGEST_PAUSE)).await;
            self.scraped.notified().await;
        }
    }

    async fn read(&self) -> Result<Sample, StoreError> {
        let channels = channels::read(&self.gateway).await?;
        // Counting a large backlog can take too long, just when the other values are wanted as well.
        let webhooks = self.gateway.store.webhook_backlogs().await;
        let webhooks = webhooks.inspect_err(|error| tracing::debug!(%error, "webhooks not counted for metrics")).ok();
        let now = self.gateway.clock.now();
        let mut keys = self.gateway.directory.ending_keys(now);
        keys.sort_unstable_by_key(|entry| entry.key.grant.expires_at);
        keys.truncate(KEYS);
        Ok(Sample { channels, webhooks, keys, now })
    }

    async fn set_files(&self) {
        let (data_dir, in_file) = (self.data_dir.clone(), !self.gateway.nodes.are_shared());
        drop(tokio::task::spawn_blocking(move || set_files(&data_dir, in_file)).await);
    }
}

/// Sets the sizes of files, and the time of the last backup.
fn set_files(data_dir: &Path, in_file: bool) {
    let size = |name: &str| std::fs::metadata(data_dir.join(name)).map_or(0, |file| clamped(file.len()));
    if in_file {
        METRICS.store_file_bytes.set(size(STORE_FILE));
        METRICS.store_wal_bytes.set(size(&format!("{STORE_FILE}-wal")));
    }
    if let Ok(disk) = rustix::fs::statvfs(data_dir) {
        METRICS.data_dir_free.set(clamped(disk.f_bavail.saturating_mul(disk.f_frsize)));
    }
    set_backup(last_backup::read(data_dir));
}

fn set_backup(read: io::Result<Option<LastBackup>>) {
    let was_ok = METRICS.backup_record_ok.set(read.is_ok().into()) == 1;
    match read {
        Ok(backup) => {
            METRICS.backup_at.set(seconds(backup.map_or(0, |backup| backup.at)));
        }
        // The time of the last backup that is known stays.
        Err(error) if was_ok => last_backup::warn(&error),
        Err(_) => {}
    }
}

fn clamped(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn set(metrics: &Metrics, sample: &Sample, most: usize) {
    metrics.sampled_at.set(seconds(sample.now));
    channels::set(metrics, &sample.channels, most);
    if let Some(webhooks) = &sample.webhooks {
        set_webhooks(metrics, webhooks, sample.now);
    }
    set_keys(metrics, &sample.keys);
}

fn set_keys(metrics: &Metrics, keys: &[Arc<KeyEntry>]) {
    metrics.api_key_expiry.clear();
    metrics.api_key_last_used.clear();
    for entry in keys {
        let of = OfKey { institution: entry.key.institution.to_string(), key: entry.key.id.to_string() };
        metrics.api_key_expiry.get_or_create(&of).set(seconds(entry.key.grant.expires_at.unwrap_or(0)));
        metrics.api_key_last_used.get_or_create(&of).set(seconds(entry.last_used_at().unwrap_or(0)));
    }
}

/// The webhooks, those with the oldest waiting deliveries first.
fn set_webhooks(metrics: &Metrics, webhooks: &[WebhookBacklog], now: Millis) {
    metrics.webhook_waiting.clear();
    metrics.webhook_oldest.clear();
    metrics.webhook_disabled.clear();
    let mut webhooks: Vec<_> = webhooks.iter().collect();
    webhooks.sort_by_key(|webhook| webhook.oldest.unwrap_or(Millis::MAX));
    for webhook in webhooks.into_iter().take(WEBHOOKS) {
        let of = OfWebhook { institution: webhook.institution.to_string(), endpoint: webhook.id.to_string() };
        let age = webhook.oldest.map_or(0, |oldest| (now - oldest).max(0));
        metrics.webhook_waiting.get_or_create(&of).set(clamped(webhook.waiting));
        metrics.webhook_oldest.get_or_create(&of).set(seconds(age));
        metrics.webhook_disabled.get_or_create(&of).set(webhook.disabled.into());
    }
}
