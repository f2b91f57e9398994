//! Every metric of this process, in one place: names, labels and help texts. `count` counts what happens.
//!
//! The registry is static, because a process has one server and what is counted happens in many places. Counting never waits
//! for the store, and a scrape reads memory only: `scrape` sets the gauges that come from elsewhere. Labels are bounded: they
//! are names from the code, or channels up to a limit, and never numbers of phones, ids of messages or texts.

mod count;

use std::collections::{HashMap, HashSet};
use std::fmt::Error;
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use prometheus_client::encoding::{EncodeLabelSet, prometheus_text, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};
use recado_domain::channel::{ChannelKey, ChannelState, ChannelType};
use recado_domain::clock::Millis;
use recado_domain::status::MessageStatus;
use recado_domain::webhook::DeliveryError;
use recado_providers::counted::{LookUpEnd, PairingEnd, Reconnect};

/// The metrics of this process.
pub static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

/// About the size of what is written at each scrape.
const COUNTED_BYTES: usize = 64 << 10;

/// The most codes of errors with series of their own; further ones are counted as `other`.
const CODES: usize = 200;

/// What the network of a channel did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Activity {
    /// It sent something on the open session.
    Line,
    /// It answered an attempt to send.
    Ack,
    /// It reported that a message was delivered or read.
    Receipt,
}

impl Activity {
    /// The value of the label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Line => "line",
            Self::Ack => "ack",
            Self::Receipt => "receipt",
        }
    }
}

/// A gauge of seconds or of a time.
pub type Seconds = Gauge<f64, AtomicU64>;
type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

macro_rules! labels {
    ($($(#[$doc:meta])* $name:ident { $($label:ident: $type:ty),+ })+) => { $(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
        pub struct $name {
            $(pub $label: $type),+
        }
    )+ };
}

labels! {
    /// The build that runs.
    Build { version: &'static str, engine: &'static str, whatsapp_web: &'static str }
    /// A call, by its route and not by its path.
    Call { route: String, method: &'static str, status: u16 }
    /// A route and a method.
    RouteOf { route: String, method: &'static str }
    /// The reason of a refusal.
    Reason { reason: &'static str }
    /// Stored secrets of a kind.
    SealedRows { kind: &'static str }
    /// What an accepted message is.
    Accepted { channel_type: &'static str, message_type: &'static str }
    /// How something on a type of channel ended.
    Outcome { channel_type: &'static str, outcome: &'static str }
    /// A type of channel.
    OfType { channel_type: &'static str }
    /// An error of a message.
    ErrorOf { channel_type: &'static str, code: String }
    /// How something ended.
    Ended { result: &'static str }
    /// Channels of a type in a state.
    InState { channel_type: &'static str, state: &'static str }
    /// A channel.
    OfChannel { institution: String, channel: String }
    /// A channel and its type.
    ChannelInfo { institution: String, channel: String, channel_type: &'static str }
    /// A channel, its state, and who caused that.
    StateOf { institution: String, channel: String, state: &'static str, cause: &'static str }
    /// A channel and what its network did.
    ActivityOf { institution: String, channel: String, kind: &'static str }
    /// A webhook.
    OfWebhook { institution: String, endpoint: String }
    /// An API key.
    OfKey { institution: String, key: String }
    /// A channel and a status that its messages reached.
    MovedOf { institution: String, channel: String, to: &'static str }
    /// A status that a message reached, or a state that a channel reached.
    Moved { channel_type: &'static str, to: &'static str }
    /// What a message has reached: `sent` since it was accepted, `delivered` since it was handed to the network.
    Latency { channel_type: &'static str, until: &'static str }
}

/// The text of a sample. Gauges have the same text in both forms of a scrape.
#[derive(Clone, Default)]
struct Sample {
    gauges: Arc<str>,
    counters: Arc<str>,
    /// The counters in the form of `OpenMetrics`.
    open_counters: Arc<str>,
}

/// Declares the metrics with their names and help texts.
macro_rules! metrics {
    (counted { $($field:ident: $type:ty = $make:expr, $name:literal, $help:literal;)+ }
     sampled { $($gauge:ident: $of:ty = $new:expr, $called:literal, $about:literal;)+ }
     tallied { $($tally:ident: $by:ty = $none:expr, $titled:literal, $text:literal;)+ }) => {
        /// The metrics, as a scrape shows them.
        pub struct Metrics {
            $(pub $field: $type,)+
            $(pub $gauge: $of,)+
            $(pub $tally: $by,)+
            /// What is written at each scrape.
            counted: Registry,
            /// What is written once for each sample: with thousands of channels that takes as long as ten scrapes.
            sampled: Mutex<Registry>,
            /// Counters that are written together with the sampled gauges.
            tallied: Registry,
            /// The text of the last sample.
            sample: Mutex<Sample>,
            /// How often messages of a channel reached a status.
            moved: Mutex<HashMap<(ChannelKey, MessageStatus), u64>>,
            /// When the network of a channel last did something.
            activity: Mutex<HashMap<(ChannelKey, Activity), Millis>>,
            /// The codes of errors with series of their own.
            codes: Mutex<HashSet<String>>,
            /// Whether calls are counted.
            counts_calls: AtomicBool,
        }

        impl Metrics {
            fn new() -> Self {
                let (mut counted, mut sampled, mut tallied) = <(Registry, Registry, Registry)>::default();
                $(let $field: $type = register(&mut counted, $name, $help, $make);)+
                $(let $gauge: $of = register(&mut sampled, $called, $about, $new);)+
                $(let $tally: $by = register(&mut tallied, $titled, $text, $none);)+
                let metrics = Self {
                    $($field,)+
                    $($gauge,)+
                    $($tally,)+
                    counted,
                    sampled: Mutex::new(sampled),
                    tallied,
                    sample: Mutex::default(),
                    moved: Mutex::default(),
                    activity: Mutex::default(),
                    codes: Mutex::default(),
                    counts_calls: AtomicBool::new(false),
                };
                metrics.begin();
                metrics
            }
        }
    };
}

metrics! { counted {
    build_info: Family<Build, Gauge> = Family::default(), "recado_build_info", "The build; always 1";
    ready: Gauge = Gauge::default(), "recado_ready", "Whether messages are accepted, as /health/ready says";
    store_up: Gauge = Gauge::default(), "recado_store_up", "Whether the store takes writes";
    secret_key_ok: Gauge = Gauge::default(), "recado_secret_key_ok",
        "Whether the secret key opens what channels and webhooks need: checked at the start, hourly and after a rotation";
    sealed_rows_ok: Family<SealedRows, Gauge> = Family::default(), "recado_sealed_rows_ok",
        "The same for each kind of stored secrets: links, sessions, webhooks, received and refused (messages)";
    http_requests: Family<Call, Counter> = Family::default(), "recado_http_requests", "Answered calls";
    http_duration: Histograms<RouteOf> = histograms(of_calls),
        "recado_http_request_duration_seconds", "Time until the head of the answer";
    http_connections: Gauge = Gauge::default(), "recado_http_connections", "Open connections of callers";
    event_streams: Gauge = Gauge::default(), "recado_event_streams", "Connections that read the event stream";
    auth_failures: Family<Reason, Counter> = Family::default(), "recado_auth_failures",
        "Calls without a valid key: missing (there was none), invalid";
    rate_limited: Family<Reason, Counter> = Family::default(), "recado_rate_limited",
        "Calls answered 429: key (the limit of a key), address (failed authentications)";
    messages_accepted: Family<Accepted, Counter> = Family::default(), "recado_messages_accepted", "Accepted messages";
    send_attempts: Family<Outcome, Counter> = Family::default(), "recado_send_attempts", "Attempts to send, by their outcome";
    send_duration: Histograms<OfType> = histograms(of_networks), "recado_send_duration_seconds",
        "Duration of an attempt to send";
    message_transitions: Family<Moved, Counter> = Family::default(), "recado_message_transitions",
        "Statuses that messages reached after they were accepted";
    message_latency: Histograms<Latency> = histograms(of_messages), "recado_message_latency_seconds",
        "Time until a message was sent, since it was accepted or due, and delivered, since it was handed to the network";
    message_ttl: Seconds = Gauge::default(), "recado_message_ttl_seconds", "The setting --message-ttl";
    channel_moves: Family<Moved, Counter> = Family::default(), "recado_channel_state_transitions",
        "States that channels reached";
    reconnects: Family<Ended, Counter> = Family::default(), "recado_line_reconnects",
        "Attempts to open a lost session again: ok, failed";
    pairings: Family<Ended, Counter> = Family::default(), "recado_pairings",
        "Linkings of phones that ended: linked, expired (nobody used the code), failed";
    lookups: Family<Ended, Counter> = Family::default(), "recado_number_lookups",
        "Numbers whose account the network was asked for: found, not_found, failed; limited (by Recado: not asked)";
    settled: Family<Outcome, Counter> = Family::default(), "recado_messages_settled",
        "Stored outcomes of attempts: what became of the message";
    errors: Family<ErrorOf, Counter> = Family::default(), "recado_message_errors", "Messages that an attempt made FAILED";
    callbacks: Family<Ended, Counter> = Family::default(), "recado_callbacks",
        "Callbacks of Meta: ok, signature (refused), error (to be repeated)";
    webhook_deliveries: Family<Ended, Counter> = Family::default(), "recado_webhook_deliveries",
        "Attempts to deliver an event: OK, or the error";
    webhook_duration: Histogram = of_networks(), "recado_webhook_delivery_duration_seconds",
        "Duration of an attempt to deliver an event";
    commits: Histogram = of_commits(), "recado_store_commit_duration_seconds",
        "Duration of a commit with its sync (SQLite)";
    batches: Histogram = of_batches(), "recado_store_batch_calls", "Calls that shared a commit (SQLite)";
    writes_waiting: Gauge = Gauge::default(), "recado_store_writes_waiting", "Calls that wait for the writing thread (SQLite)";
    store_reopened: Counter = Counter::default(), "recado_store_reopened",
        "How often the store's file was opened again after a failed write or sync (SQLite)";
    purged_rows: Counter = Counter::default(), "recado_purged_rows",
        "Old rows that this process deleted, without the rows that belong to them";
    purged_at: Seconds = Gauge::default(), "recado_purge_last_success_timestamp_seconds",
        "When this process last finished a purge";
    lease_remaining: Seconds = Gauge::default(), "recado_node_lease_remaining_seconds",
        "How long this node may still send without a renewal; -1 without other nodes";
    node_channels: Gauge = Gauge::default(), "recado_node_channels", "Channels that this node owns";
    fenced: Counter = Counter::default(), "recado_node_fenced", "Writes that were refused because another node owns the channel";
    log_lines_lost: Counter = Counter::default(), "recado_log_lines_lost", "Log lines that were lost to a slow reader";
    store_file_bytes: Gauge = Gauge::default(), "recado_store_file_bytes", "Size of the store's file (SQLite)";
    store_wal_bytes: Gauge = Gauge::default(), "recado_store_wal_bytes", "Size of the write-ahead log (SQLite)";
    data_dir_free: Gauge = Gauge::default(), "recado_data_dir_free_bytes", "Free space for the data directory";
    backup_at: Seconds = Gauge::default(), "recado_backup_last_success_timestamp_seconds",
        "When `recado backup` last succeeded on this directory; 0: never";
    backup_record_ok: Gauge = Gauge::default(), "recado_backup_record_ok",
        "Whether the record of the last backup can be read, or there is none; otherwise nobody knows when the last backup was made";
    cpu: Counter<f64, AtomicU64> = Counter::default(), "process_cpu_seconds", "User and system CPU time";
    memory: Gauge = Gauge::default(), "process_resident_memory_bytes", "Resident memory";
    files: Gauge = Gauge::default(), "process_open_fds", "Open files";
    most_files: Gauge = Gauge::default(), "process_max_fds", "The limit of open files";
    started: Seconds = Gauge::default(), "process_start_time_seconds", "When the process started";
} sampled {
    channels: Family<InState, Gauge> = Family::default(), "recado_channels", "Channels of this node by state";
    channel_info: Family<ChannelInfo, Gauge> = Family::default(), "recado_channel_info", "A channel of this node; always 1";
    channel_state: Family<StateOf, Gauge> = Family::default(), "recado_channel_state",
        "The state of a channel, and whether a person, the network or the server caused it; always 1";
    channel_state_since: Family<OfChannel, Seconds> = Family::default(), "recado_channel_state_since_timestamp_seconds",
        "Since when the channel is in its state";
    channel_restricted_until: Family<OfChannel, Seconds> = Family::default(),
        "recado_channel_restricted_until_timestamp_seconds", "Until when the network lets the channel open no chats";
    channel_last_activity: Family<ActivityOf, Seconds> = Family::default(),
        "recado_channel_last_activity_timestamp_seconds",
        "When the network last sent something on the session (line), answered an attempt (ack), or reported a delivery (receipt), since this process started";
    channel_waiting: Family<OfChannel, Gauge> = Family::default(), "recado_channel_waiting", "Messages that wait or are in flight";
    channel_oldest: Family<OfChannel, Seconds> = Family::default(), "recado_channel_oldest_waiting_age_seconds",
        "Age of the oldest of them";
    channel_due: Family<OfChannel, Seconds> = Family::default(), "recado_channel_oldest_due_age_seconds",
        "For how long the oldest of them could have been sent, by the intervals between sends; none where newRecipientsPerDay is set, because a message may wait for a day";
    channel_backlog: Family<OfChannel, Seconds> = Family::default(), "recado_channel_backlog_ratio",
        "Waiting messages as a part of --backlog-cap";
    channels_omitted: Gauge = Gauge::default(), "recado_metrics_channels_omitted",
        "Channels beyond --metrics-channels, which have no series of their own";
    waiting: Family<OfType, Gauge> = Family::default(), "recado_messages_waiting", "Messages that wait or are in flight";
    oldest: Family<OfType, Seconds> = Family::default(), "recado_oldest_waiting_age_seconds", "Age of the oldest of them";
    sampled_at: Seconds = Gauge::default(), "recado_channels_sampled_timestamp_seconds",
        "When the series about channels were last read from the store";
    webhook_waiting: Family<OfWebhook, Gauge> = Family::default(), "recado_webhook_waiting",
        "Deliveries of a webhook that wait or are in flight; the same on each node";
    webhook_oldest: Family<OfWebhook, Seconds> = Family::default(), "recado_webhook_oldest_waiting_age_seconds",
        "Age of the oldest of them";
    webhook_disabled: Family<OfWebhook, Gauge> = Family::default(), "recado_webhook_disabled",
        "Whether the server disabled the webhook, because its receiver failed for too long";
    api_key_expiry: Family<OfKey, Seconds> = Family::default(), "recado_api_key_expiry_timestamp_seconds",
        "When a valid API key ends, of those that end; the same on each node";
    api_key_last_used: Family<OfKey, Seconds> = Family::default(), "recado_api_key_last_used_timestamp_seconds",
        "When a valid API key that ends was last used on this node, or on any node before this one started; 0: never";
    channels_outdated: Family<OfType, Gauge> = Family::default(), "recado_channels_protocol_refused",
        "Channels that are down because the network no longer accepts this version of the protocol";
} tallied {
    channel_transitions: Family<MovedOf, Counter> = Family::default(), "recado_channel_transitions",
        "Statuses that messages of a channel reached on this node";
} }

fn register<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

fn histograms<L: Clone + Hash + Eq>(make: fn() -> Histogram) -> Histograms<L> {
    Family::new_with_constructor(make)
}

fn of_calls() -> Histogram {
    Histogram::new([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0])
}

fn of_networks() -> Histogram {
    Histogram::new([0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0])
}

fn of_messages() -> Histogram {
    Histogram::new([0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3_600.0, 21_600.0, 86_400.0])
}

fn of_commits() -> Histogram {
    Histogram::new([0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0])
}

fn of_batches() -> Histogram {
    Histogram::new([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0])
}

/// The outcomes of an attempt to send.
const ATTEMPTS: [&str; 11] = [
    "accepted",
    "permanent_failure",
    "temporary_failure",
    "recipient_throttled",
    "not_sent",
    "channel_unavailable",
    "channel_throttled",
    "channel_disabled",
    "new_chat_blocked",
    "connection_lost",
    "unknown",
];
/// The kinds of stored secrets.
pub const SEALED: [&str; 5] = ["links", "sessions", "webhooks", "received", "refused"];
/// What becomes of a message after an attempt.
const SETTLED: [&str; 5] = ["sent", "failed", "unknown", "retry", "held"];

impl Metrics {
    /// Sets counters to 0 whose labels are known: otherwise Prometheus does not see their first increase.
    fn begin(&self) {
        self.backup_record_ok.set(1);
        for channel_type in ChannelType::ALL.map(ChannelType::name) {
            for outcome in ATTEMPTS {
                drop(self.send_attempts.get_or_create(&Outcome { channel_type, outcome }));
            }
            for to in MessageStatus::ALL.map(MessageStatus::name) {
                drop(self.message_transitions.get_or_create(&Moved { channel_type, to }));
            }
            for to in ChannelState::ALL.map(ChannelState::name) {
                drop(self.channel_moves.get_or_create(&Moved { channel_type, to }));
            }
            for outcome in SETTLED {
                drop(self.settled.get_or_create(&Outcome { channel_type, outcome }));
            }
        }
        for result in ["ok", "signature", "error"] {
            drop(self.callbacks.get_or_create(&Ended { result }));
        }
        for result in DeliveryError::ALL.map(DeliveryError::name).into_iter().chain(["OK"]) {
            drop(self.webhook_deliveries.get_or_create(&Ended { result }));
        }
        for result in Reconnect::ALL.map(Reconnect::name) {
            drop(self.reconnects.get_or_create(&Ended { result }));
        }
        for result in PairingEnd::ALL.map(PairingEnd::name) {
            drop(self.pairings.get_or_create(&Ended { result }));
        }
        for result in LookUpEnd::ALL.map(LookUpEnd::name) {
            drop(self.lookups.get_or_create(&Ended { result }));
        }
        for kind in SEALED {
            self.sealed_rows_ok.get_or_create(&SealedRows { kind }).set(1);
        }
        for reason in ["missing", "invalid"] {
            drop(self.auth_failures.get_or_create(&Reason { reason }));
        }
        for reason in ["key", "address"] {
            drop(self.rate_limited.get_or_create(&Reason { reason }));
        }
    }

    /// Replaces the sampled gauges. A scrape sees either all the former values or all the new ones.
    pub fn replace(&self, set: impl FnOnce(&Self)) {
        let sampled = self.sampled.lock().unwrap_or_else(PoisonError::into_inner);
        set(self);
        if let Ok(sample) = self.write_sample(&sampled) {
            *self.sample.lock().unwrap_or_else(PoisonError::into_inner) = sample;
        }
    }

    fn write_sample(&self, sampled: &Registry) -> Result<Sample, Error> {
        let mut gauges = String::with_capacity(self.sample().gauges.len());
        let (mut counters, mut open_counters) = <(String, String)>::default();
        text::encode_registry(&mut gauges, sampled)?;
        prometheus_text::encode(&mut counters, &self.tallied)?;
        text::encode_registry(&mut open_counters, &self.tallied)?;
        Ok(Sample { gauges: gauges.into(), counters: counters.into(), open_counters: open_counters.into() })
    }

    fn sample(&self) -> Sample {
        self.sample.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The text of a scrape, and its content type.
    pub fn render(&self, open_metrics: bool) -> Result<(String, &'static str), Error> {
        let Sample { gauges, counters, open_counters } = self.sample();
        let mut out = String::with_capacity(gauges.len() + open_counters.len() + COUNTED_BYTES);
        if open_metrics {
            text::encode_registry(&mut out, &self.counted)?;
            out.push_str(&gauges);
            out.push_str(&open_counters);
            text::encode_eof(&mut out)?;
            Ok((out, "application/openmetrics-text; version=1.0.0; charset=utf-8"))
        } else {
            prometheus_text::encode(&mut out, &self.counted)?;
            out.push_str(&gauges);
            out.push_str(&counters);
            Ok((out, prometheus_text::CONTENT_TYPE))
        }
    }
}

/// A time as metrics have it.
#[expect(clippy::cast_precision_loss, reason = "times are far below 2^52")]
pub fn seconds(milliseconds: Millis) -> f64 {
    milliseconds as f64 / 1_000.0
}

#[cfg(test)]
mod tests;
