//! Counts what happens.

use std::collections::HashMap;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use recado_domain::channel::{ChannelKey, ChannelState};
use recado_domain::clock::Millis;
use recado_domain::status::MessageStatus;
use recado_providers::counted::Counted;

use super::{Accepted, Activity, CODES, Call, Ended, ErrorOf, Latency, Metrics, Moved, Reason, RouteOf, seconds};

impl Metrics {
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

    /// Counts a message of a channel that reached a status.
    pub fn moved(&self, channel: ChannelKey, channel_type: &'static str, to: MessageStatus) {
        self.message_transitions.get_or_create(&Moved { channel_type, to: to.name() }).inc();
        *self.moved.lock().unwrap_or_else(PoisonError::into_inner).entry((channel, to)).or_default() += 1;
    }

    /// How often messages of channels reached which status. Other channels than these are forgotten.
    pub fn moved_of(&self, of: impl Fn(ChannelKey) -> bool) -> HashMap<(ChannelKey, MessageStatus), u64> {
        let mut moved = self.moved.lock().unwrap_or_else(PoisonError::into_inner);
        moved.retain(|(channel, _), _| of(*channel));
        moved.clone()
    }

    /// Counts a channel that reached a state.
    pub fn channel_moved(&self, channel_type: &'static str, to: ChannelState) {
        self.channel_moves.get_or_create(&Moved { channel_type, to: to.name() }).inc();
    }

    /// Counts what a driver reports.
    pub fn driver_counted(&self, what: Counted) {
        let (family, result) = match what {
            Counted::Reconnect(how) => (&self.reconnects, how.name()),
            Counted::Pairing(how) => (&self.pairings, how.name()),
            Counted::LookUp(how) => (&self.lookups, how.name()),
        };
        family.get_or_create(&Ended { result }).inc();
    }

    /// Observes how long a message took.
    pub fn took(&self, channel_type: &'static str, until: &'static str, time: Millis) {
        self.message_latency.get_or_create(&Latency { channel_type, until }).observe(seconds(time.max(0)));
    }

    /// The network of this channel did something.
    pub fn active(&self, channel: ChannelKey, what: Activity, now: Millis) {
        self.activity.lock().unwrap_or_else(PoisonError::into_inner).insert((channel, what), now);
    }

    /// When the networks of channels last did what. Other channels than these are forgotten.
    pub fn last_activity(&self, of: impl Fn(ChannelKey) -> bool) -> HashMap<(ChannelKey, Activity), Millis> {
        let mut activity = self.activity.lock().unwrap_or_else(PoisonError::into_inner);
        activity.retain(|(channel, _), _| of(*channel));
        activity.clone()
    }
}
