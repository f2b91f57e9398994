//! Every metric of this process, in one place: names, labels and help texts.
//!
//! The registry is static, because a process has one server and what is counted happens in many places. Counting never waits
//! for the store, and a scrape reads memory only: `scrape` sets the gauges that come from elsewhere. Labels are bounded: they
//! are names from the code, or channels up to a limit, and never numbers of phones, ids of messages or texts.

use std::collections::{HashMap, HashSet};
use std::fmt::Error;
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, prometheus_text, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};
use recado_domain::channel::{ChannelKey, ChannelType};
use recado_domain::clock::Millis;
use recado_domain::webhook::DeliveryError;

/// The metrics of this process.
pub static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

/// The most codes of errors with series of their own; further ones are counted as `other`.
const CODES: usize = 200;

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
    /// A channel and its state.
    StateOf { institution: String, channel: String, state: &'static str }
}

/// Declares the metrics with their names and help texts.
macro_rules! metrics {
    ($($field:ident: $type:ty = $make:expr, $name:literal, $help:literal;)+) => {
        /// The metrics, as `registry` writes them.
        pub struct Metrics {
            $(pub $field: $type,)+
            registry: Registry,
            /// Held while gauges are replaced, so that a scrape sees either the former values or the new ones.
            whole: Mutex<()>,
            /// When the network of a channel last answered.
            answered: Mutex<HashMap<ChannelKey, Millis>>,
            /// The codes of errors with series of their own.
            codes: Mutex<HashSet<String>>,
            /// Whether calls are counted.
            counts_calls: AtomicBool,
        }

        impl Metrics {
            fn new() -> Self {
                let mut registry = Registry::default();
                $(let $field: $type = register(&mut registry, $name, $help, $make);)+
                let metrics = Self {
                    $($field,)+
                    registry,
                    whole: Mutex::default(),
                    answered: Mutex::default(),
                    codes: Mutex::default(),
                    counts_calls: AtomicBool::new(false),
                };
                metrics.begin();
                metrics
            }
        }
    };
}

metrics! {
    build_info: Family<Build, Gauge> = Family::default(), "recado_build_info", "The build; always 1";
    ready: Gauge = Gauge::default(), "recado_ready", "Whether messages are accepted, as /health/ready says";
    store_up: Gauge = Gauge::default(), "recado_store_up", "Whether the store takes writes";
    secret_key_ok: Gauge = Gauge::default(), "recado_secret_key_ok",
        "Whether the secret key opened what channels need, when this process started";
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
    settled: Family<Outcome, Counter> = Family::default(), "recado_messages_settled",
        "Stored outcomes of attempts: what became of the message";
    errors: Family<ErrorOf, Counter> = Family::default(), "recado_message_errors", "Messages that an attempt made FAILED";
    channels: Family<InState, Gauge> = Family::default(), "recado_channels", "Channels of this node by state";
    channel_info: Family<ChannelInfo, Gauge> = Family::default(), "recado_channel_info", "A channel of this node; always 1";
    channel_state: Family<StateOf, Gauge> = Family::default(), "recado_channel_state", "The state of a channel; always 1";
    channel_restricted_until: Family<OfChannel, Seconds> = Family::default(),
        "recado_channel_restricted_until_timestamp_seconds", "Until when the network lets the channel open no chats";
    channel_last_answer: Family<OfChannel, Seconds> = Family::default(),
        "recado_channel_last_answer_timestamp_seconds", "When the network last answered an attempt, since this process started";
    channel_waiting: Family<OfChannel, Gauge> = Family::default(), "recado_channel_waiting", "Messages that wait or are in flight";
    channel_oldest: Family<OfChannel, Seconds> = Family::default(), "recado_channel_oldest_waiting_age_seconds",
        "Age of the oldest of them";
    channel_backlog: Family<OfChannel, Seconds> = Family::default(), "recado_channel_backlog_ratio",
        "Waiting messages as a part of --backlog-cap";
    channels_omitted: Gauge = Gauge::default(), "recado_metrics_channels_omitted",
        "Channels beyond --metrics-channels, which have no series of their own";
    waiting: Family<OfType, Gauge> = Family::default(), "recado_messages_waiting", "Messages that wait or are in flight";
    oldest: Family<OfType, Seconds> = Family::default(), "recado_oldest_waiting_age_seconds", "Age of the oldest of them";
    sampled: Seconds = Gauge::default(), "recado_channels_sampled_timestamp_seconds",
        "When the series about channels were last read from the store";
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
    purged_at: Seconds = Gauge::default(), "recado_purge_last_success_timestamp_seconds",
        "When this process last finished a purge";
    lease_remaining: Seconds = Gauge::default(), "recado_node_lease_remaining_seconds",
        "How long this node may still send without a renewal; -1 without other nodes";
    node_channels: Gauge = Gauge::default(), "recado_node_channels", "Channels that this node owns";
    fenced: Counter = Counter::default(), "recado_node_fenced", "Writes that were refused because another node owns the channel";
    log_lines_lost: Counter = Counter::default(), "recado_log_lines_lost", "Log lines that were lost to a slow reader";
    cpu: Counter<f64, AtomicU64> = Counter::default(), "process_cpu_seconds", "User and system CPU time";
    memory: Gauge = Gauge::default(), "process_resident_memory_bytes", "Resident memory";
    files: Gauge = Gauge::default(), "process_open_fds", "Open files";
    most_files: Gauge = Gauge::default(), "process_max_fds", "The limit of open files";
    started: Seconds = Gauge::default(), "process_start_time_seconds", "When the process started";
}

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
/// What becomes of a message after an attempt.
const SETTLED: [&str; 5] = ["sent", "failed", "unknown", "retry", "held"];

impl Metrics {
    /// Sets counters to 0 whose labels are known: otherwise Prometheus does not see their first increase.
    fn begin(&self) {
        for channel_type in ChannelType::ALL.map(ChannelType::name) {
            for outcome in ATTEMPTS {
                drop(self.send_attempts.get_or_create(&Outcome { channel_type, outcome }));
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
        for reason in ["missing", "invalid"] {
            drop(self.auth_failures.get_or_create(&Reason { reason }));
        }
        for reason in ["key", "address"] {
            drop(self.rate_limited.get_or_create(&Reason { reason }));
        }
    }

    /// Begins to count calls. A server without a listener for scrapes does not count them.
    pub fn begin_to_count_calls(&self) {
        self.counts_calls.store(true, Ordering::Relaxed);
    }

    /// Whether calls are counted.
    pub fn count_calls(&self) -> bool {
        self.counts_calls.load(Ordering::Relaxed)
    }

    /// Counts an answered call.
    pub fn called(&self, route: Option<&str>, method: &str, status: u16, time: Duration) {
        if !self.count_calls() {
            return;
        }
        // A path without a route, and a method that no route has, are names that anyone can make.
        let route = route.unwrap_or("none").to_owned();
        let known = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
        let method = known.into_iter().find(|known| *known == method).unwrap_or("other");
        self.http_duration.get_or_create(&RouteOf { route: route.clone(), method }).observe(time.as_secs_f64());
        self.http_requests.get_or_create(&Call { route, method, status }).inc();
    }

    /// Counts a call without a valid key.
    pub fn not_authenticated(&self, has_key: bool) {
        let reason = if has_key { "invalid" } else { "missing" };
        self.auth_failures.get_or_create(&Reason { reason }).inc();
    }

    /// Counts a call that a limit refused.
    pub fn limited(&self, reason: &'static str) {
        self.rate_limited.get_or_create(&Reason { reason }).inc();
    }

    /// Counts an accepted message.
    pub fn accepted(&self, channel_type: &'static str, message_type: &'static str) {
        self.messages_accepted.get_or_create(&Accepted { channel_type, message_type }).inc();
    }

    /// Counts a callback.
    pub fn called_back(&self, result: &'static str) {
        self.callbacks.get_or_create(&Ended { result }).inc();
    }

    /// Counts an attempt to deliver an event to a webhook.
    pub fn delivered(&self, result: &'static str, time: Duration) {
        self.webhook_deliveries.get_or_create(&Ended { result }).inc();
        self.webhook_duration.observe(time.as_secs_f64());
    }

    /// A purge ended.
    pub fn purged(&self, now: Millis) {
        self.purged_at.set(seconds(now));
    }

    /// Counts an error of a message.
    pub fn failed(&self, channel_type: &'static str, code: &str) {
        let mut codes = self.codes.lock().unwrap_or_else(PoisonError::into_inner);
        if codes.len() < CODES && !codes.contains(code) {
            codes.insert(code.to_owned());
        }
        let code = if codes.contains(code) { code } else { "other" }.to_owned();
        drop(codes);
        self.errors.get_or_create(&ErrorOf { channel_type, code }).inc();
    }

    /// The network of this channel answered.
    pub fn answered(&self, channel: ChannelKey, now: Millis) {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner).insert(channel, now);
    }

    /// When the networks of channels last answered. Other channels than these are forgotten.
    pub fn last_answers(&self, of: impl Fn(ChannelKey) -> bool) -> HashMap<ChannelKey, Millis> {
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        answered.retain(|channel, _| of(*channel));
        answered.clone()
    }

    /// Replaces gauges. A scrape sees either all the former values or all the new ones.
    pub fn replace(&self, set: impl FnOnce(&Self)) {
        let _whole = self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        set(self);
    }

    /// The text of a scrape, and its content type.
    pub fn render(&self, open_metrics: bool) -> Result<(String, &'static str), Error> {
        let _whole = self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = String::new();
        if open_metrics {
            text::encode(&mut out, &self.registry)?;
            Ok((out, "application/openmetrics-text; version=1.0.0; charset=utf-8"))
        } else {
            prometheus_text::encode(&mut out, &self.registry)?;
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
mod tests {
    use super::*;

    #[test]
    fn names_that_callers_make_do_not_become_labels() {
        let metrics = Metrics::new();
        metrics.begin_to_count_calls();
        for number in 0..1_000 {
            metrics.called(None, &format!("M{number}"), 405, Duration::ZERO);
            metrics.failed("SANDBOX", &format!("CODE_{number}"));
        }
        let (text, _) = metrics.render(false).expect("text");
        let series = |name: &str| text.lines().filter(|line| line.starts_with(name)).count();
        assert_eq!(series("recado_http_requests_total{"), 1);
        assert_eq!(series("recado_message_errors_total{"), CODES + 1);
        assert!(
            text.contains("recado_http_requests_total{route=\"none\",method=\"other\",status=\"405\"} 1000"),
            "{text}"
        );
        let other = format!("recado_message_errors_total{{channel_type=\"SANDBOX\",code=\"other\"}} {}", 1_000 - CODES);
        assert!(text.contains(&other), "{text}");
    }

    #[test]
    fn both_forms_have_the_same_series() {
        let metrics = Metrics::new();
        metrics.begin_to_count_calls();
        metrics.called(Some("/health/live"), "GET", 200, Duration::from_millis(3));
        let samples = |open_metrics| {
            let text = metrics.render(open_metrics).expect("text").0;
            let lines = text.lines().filter(|line| !line.starts_with('#'));
            let mut names: Vec<_> = lines.filter_map(|line| line.split(['{', ' ']).next()).map(str::to_owned).collect();
            names.sort();
            names
        };
        assert_eq!(samples(false), samples(true));
        assert!(metrics.render(true).expect("text").0.ends_with("# EOF\n"));
    }
}
