//! The series about channels. Their states and queues are in the store, so they are read in the background, and only while
//! something scrapes: an idle server does not poll.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use recado_domain::channel::{Channel, ChannelKey};
use recado_domain::clock::Millis;
use recado_domain::message::Backlog;
use recado_store::StoreError;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::signed;
use crate::gateway::Gateway;
use crate::metrics::{ChannelInfo, InState, METRICS, Metrics, OfChannel, OfType, StateOf, seconds};

/// The shortest time between two reads of the store.
const PAUSE: Duration = Duration::from_secs(5);
/// The time between two reads is this many times their duration, so that they use little of the store.
const SHARE: u32 = 20;
/// The longest time between two reads.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// Reads the channels.
pub struct Sampler {
    gateway: Arc<Gateway>,
    /// The most channels that have series of their own.
    most: usize,
    scraped: Notify,
}

/// A channel and its queue.
struct Sample {
    channel: Channel,
    waiting: u64,
    /// The age of the oldest waiting message, in seconds.
    age: f64,
}

impl Sampler {
    pub fn new(gateway: Arc<Gateway>, most: usize) -> Self {
        Self { gateway, most, scraped: Notify::new() }
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
            match self.read().await {
                Ok(samples) => self.set(&samples),
                Err(error) => tracing::debug!(%error, "channels not read for metrics; the next scrape tries again"),
            }
            sleep((began.elapsed() * SHARE).clamp(PAUSE, LONGEST_PAUSE)).await;
            self.scraped.notified().await;
        }
    }

    /// The channels of this node, those with the oldest messages first.
    async fn read(&self) -> Result<Vec<Sample>, StoreError> {
        let channels = self.gateway.store.channels().await?;
        let backlogs = self.gateway.store.backlogs().await?;
        let backlogs: HashMap<ChannelKey, Backlog> = backlogs.into_iter().map(|one| (one.channel, one)).collect();
        let (now, leases) = (self.gateway.clock.now(), self.gateway.nodes.leases());
        let own = channels.into_iter().filter(|one| one.deleted_at.is_none() && leases.epoch(one.key).is_some());
        let mut samples: Vec<_> = own
            .map(|channel| {
                let backlog = backlogs.get(&channel.key);
                let age = backlog.map_or(0.0, |backlog| seconds((now - backlog.oldest).max(0)));
                Sample { waiting: backlog.map_or(0, |backlog| backlog.waiting), age, channel }
            })
            .collect();
        samples.sort_by(|one, other| other.age.total_cmp(&one.age).then(one.channel.key.cmp(&other.channel.key)));
        Ok(samples)
    }

    fn set(&self, samples: &[Sample]) {
        let own: HashSet<ChannelKey> = samples.iter().map(|sample| sample.channel.key).collect();
        let answers = METRICS.last_answers(|key| own.contains(&key));
        let (cap, now) = (self.gateway.behaviour.backlog_cap, self.gateway.clock.now());
        METRICS.replace(|metrics| {
            clear(metrics);
            metrics.sampled.set(seconds(now));
            metrics.channels_omitted.set(signed(samples.len().saturating_sub(self.most)));
            for sample in samples {
                count(metrics, sample);
            }
            for sample in samples.iter().take(self.most) {
                show(metrics, sample, answers.get(&sample.channel.key).copied(), cap);
            }
        });
    }
}

fn clear(metrics: &Metrics) {
    metrics.channels.clear();
    metrics.waiting.clear();
    metrics.oldest.clear();
    metrics.channel_info.clear();
    metrics.channel_state.clear();
    metrics.channel_restricted_until.clear();
    metrics.channel_last_answer.clear();
    metrics.channel_waiting.clear();
    metrics.channel_oldest.clear();
    metrics.channel_backlog.clear();
}

/// The series of all channels together.
fn count(metrics: &Metrics, Sample { channel, waiting, age }: &Sample) {
    let of_type = OfType { channel_type: channel.kind.name() };
    let in_state = InState { channel_type: channel.kind.name(), state: channel.state.name() };
    metrics.channels.get_or_create(&in_state).inc();
    metrics.waiting.get_or_create(&of_type).inc_by(i64::try_from(*waiting).unwrap_or(i64::MAX));
    let oldest = metrics.oldest.get_or_create(&of_type);
    oldest.set(oldest.get().max(*age));
}

/// The series of one channel.
fn show(metrics: &Metrics, Sample { channel, waiting, age }: &Sample, answered: Option<Millis>, cap: usize) {
    let of = OfChannel { institution: channel.institution.to_string(), channel: channel.id.to_string() };
    let OfChannel { institution, channel: id } = of.clone();
    let info = ChannelInfo { institution, channel: id, channel_type: channel.kind.name() };
    metrics.channel_info.get_or_create(&info).set(1);
    let OfChannel { institution, channel: id } = of.clone();
    metrics.channel_state.get_or_create(&StateOf { institution, channel: id, state: channel.state.name() }).set(1);
    metrics.channel_waiting.get_or_create(&of).set(i64::try_from(*waiting).unwrap_or(i64::MAX));
    metrics.channel_oldest.get_or_create(&of).set(*age);
    metrics.channel_backlog.get_or_create(&of).set(ratio(*waiting, cap));
    if let Some(until) = channel.restricted_until {
        metrics.channel_restricted_until.get_or_create(&of).set(seconds(until));
    }
    if let Some(at) = answered {
        metrics.channel_last_answer.get_or_create(&of).set(seconds(at));
    }
}

#[expect(clippy::cast_precision_loss, reason = "numbers of messages are far below 2^52")]
fn ratio(waiting: u64, cap: usize) -> f64 {
    waiting as f64 / cap.max(1) as f64
}
