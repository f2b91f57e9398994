//! The series of channels.

use std::collections::{HashMap, HashSet};

use recado_domain::channel::{Channel, ChannelEvent, ChannelKey};
use recado_domain::clock::Millis;
use recado_domain::message::Backlog;
use recado_domain::status::MessageStatus;
use recado_store::StoreError;

use super::signed;
use crate::gateway::Gateway;
use crate::metrics::{
    Activity, ActivityOf, ChannelInfo, InState, METRICS, Metrics, MovedOf, OfChannel, OfType, StateOf, seconds,
};

/// The channels of this node, those with the oldest messages first.
pub struct Channels {
    channels: Vec<Known>,
    /// The setting `--backlog-cap`.
    cap: usize,
}

/// What is known of a channel.
struct Known {
    channel: Channel,
    /// The event with which its state began. Events are deleted after a year.
    since: Option<ChannelEvent>,
    waiting: u64,
    /// The age of the oldest waiting message, in seconds.
    age: f64,
    /// For how long it could have been sent, in seconds; `None` where that is not known.
    due: Option<f64>,
    activity: Vec<(Activity, Millis)>,
    /// How often its messages reached which status.
    moved: Vec<(MessageStatus, u64)>,
    /// The network no longer accepts this version of the protocol.
    outdated: bool,
}

pub async fn read(gateway: &Gateway) -> Result<Channels, StoreError> {
    let channels = gateway.store.channels().await?;
    let backlogs = gateway.store.backlogs().await?;
    let backlogs: HashMap<ChannelKey, Backlog> = backlogs.into_iter().map(|one| (one.channel, one)).collect();
    let mut states: HashMap<ChannelKey, ChannelEvent> = gateway.store.state_events().await?.into_iter().collect();
    let (now, leases) = (gateway.clock.now(), gateway.nodes.leases());
    let own = channels.into_iter().filter(|one| one.deleted_at.is_none() && leases.epoch(one.key).is_some());
    let own: Vec<_> = own.collect();
    let keys: HashSet<ChannelKey> = own.iter().map(|channel| channel.key).collect();
    let done = METRICS.last_activity(|key| keys.contains(&key));
    let moved = METRICS.moved_of(|key| keys.contains(&key));
    let mut channels: Vec<_> = own
        .into_iter()
        .map(|channel| {
            let backlog = backlogs.get(&channel.key);
            let driver = gateway.drivers.of(channel.kind);
            let heard = driver.as_ref().and_then(|driver| driver.last_heard(channel.key));
            let moved = MessageStatus::ALL.map(|status| (status, moved.get(&(channel.key, status)).copied()));
            let did = [Activity::Ack, Activity::Receipt].map(|what| Some((what, *done.get(&(channel.key, what))?)));
            Known {
                since: states.remove(&channel.key),
                waiting: backlog.map_or(0, |backlog| backlog.waiting),
                age: backlog.map_or(0.0, |backlog| seconds((now - backlog.oldest).max(0))),
                due: due_age(&channel, backlog, now).map(seconds),
                outdated: driver.is_some_and(|driver| driver.is_outdated(&channel)),
                moved: moved.into_iter().filter_map(|(status, times)| shown(status, times)).collect(),
                activity: did.into_iter().flatten().chain(heard.map(|at| (Activity::Line, at))).collect(),
                channel,
            }
        })
        .collect();
    channels.sort_by(|one, other| other.age.total_cmp(&one.age).then(one.channel.key.cmp(&other.channel.key)));
    Ok(Channels { channels, cap: gateway.behaviour.backlog_cap })
}

/// For how long the oldest waiting message could have been sent. Until `next_send_at` the channel rests, because of its
/// intervals or because its network wants it. `None` if the oldest message may wait for a day to open a chat: which message is
/// due then is known to a claim alone.
fn due_age(channel: &Channel, backlog: Option<&Backlog>, now: Millis) -> Option<Millis> {
    if channel.settings.new_recipients_per_day().is_some() {
        return None;
    }
    Some(backlog.map_or(0, |backlog| (now - backlog.oldest.max(channel.next_send_at)).max(0)))
}

/// A status is shown once it was reached. These are shown as 0 before, so that Prometheus sees their first increase: alerts
/// use them.
fn shown(status: MessageStatus, times: Option<u64>) -> Option<(MessageStatus, u64)> {
    let always = matches!(status, MessageStatus::Sent | MessageStatus::Delivered | MessageStatus::Failed);
    times.or(always.then_some(0)).map(|times| (status, times))
}

/// Replaces the series; `most` channels have series of their own.
pub fn set(metrics: &Metrics, Channels { channels, cap }: &Channels, most: usize) {
    clear(metrics);
    metrics.channels_omitted.set(signed(channels.len().saturating_sub(most)));
    channels.iter().for_each(|known| count(metrics, known));
    channels.iter().take(most).for_each(|known| show(metrics, known, *cap));
}

fn clear(metrics: &Metrics) {
    metrics.channels.clear();
    metrics.waiting.clear();
    metrics.oldest.clear();
    metrics.channel_info.clear();
    metrics.channel_state.clear();
    metrics.channel_state_since.clear();
    metrics.channel_restricted_until.clear();
    metrics.channel_last_activity.clear();
    metrics.channel_waiting.clear();
    metrics.channel_oldest.clear();
    metrics.channel_due.clear();
    metrics.channel_backlog.clear();
    metrics.channels_outdated.clear();
    metrics.channel_transitions.clear();
}

/// The series of all channels together.
fn count(metrics: &Metrics, Known { channel, waiting, age, outdated, .. }: &Known) {
    let of_type = OfType { channel_type: channel.kind.name() };
    let in_state = InState { channel_type: channel.kind.name(), state: channel.state.name() };
    metrics.channels.get_or_create(&in_state).inc();
    metrics.waiting.get_or_create(&of_type).inc_by(i64::try_from(*waiting).unwrap_or(i64::MAX));
    metrics.channels_outdated.get_or_create(&of_type).inc_by((*outdated).into());
    let oldest = metrics.oldest.get_or_create(&of_type);
    oldest.set(oldest.get().max(*age));
}

/// The series of one channel.
fn show(metrics: &Metrics, Known { channel, since, waiting, age, due, activity, moved, .. }: &Known, cap: usize) {
    let of = OfChannel { institution: channel.institution.to_string(), channel: channel.id.to_string() };
    let OfChannel { institution, channel: id } = of.clone();
    let info = ChannelInfo { institution, channel: id, channel_type: channel.kind.name() };
    metrics.channel_info.get_or_create(&info).set(1);
    let OfChannel { institution, channel: id } = of.clone();
    let cause = since.as_ref().map_or("unknown", |event| event.what.by.cause());
    let state = StateOf { institution, channel: id, state: channel.state.name(), cause };
    metrics.channel_state.get_or_create(&state).set(1);
    if let Some(event) = since {
        metrics.channel_state_since.get_or_create(&of).set(seconds(event.at));
    }
    metrics.channel_waiting.get_or_create(&of).set(i64::try_from(*waiting).unwrap_or(i64::MAX));
    metrics.channel_oldest.get_or_create(&of).set(*age);
    if let Some(due) = due {
        metrics.channel_due.get_or_create(&of).set(*due);
    }
    metrics.channel_backlog.get_or_create(&of).set(ratio(*waiting, cap));
    if let Some(until) = channel.restricted_until {
        metrics.channel_restricted_until.get_or_create(&of).set(seconds(until));
    }
    for (status, times) in moved {
        let OfChannel { institution, channel } = of.clone();
        let to = MovedOf { institution, channel, to: status.name() };
        metrics.channel_transitions.get_or_create(&to).inc_by(*times);
    }
    for (what, at) in activity {
        let OfChannel { institution, channel } = of.clone();
        let activity = ActivityOf { institution, channel, kind: what.name() };
        metrics.channel_last_activity.get_or_create(&activity).set(seconds(*at));
    }
}

#[expect(clippy::cast_precision_loss, reason = "numbers of messages are far below 2^52")]
fn ratio(waiting: u64, cap: usize) -> f64 {
    waiting as f64 / cap.max(1) as f64
}

#[cfg(test)]
mod tests {
    use recado_domain::channel::{ChannelChange, ChannelType};
    use recado_domain::field_errors::FieldErrors;
    use recado_store::fixtures::{Ground, NOW, SqliteFile};
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn a_message_that_its_channel_holds_back_is_not_old() {
        let ground = Ground::on(SqliteFile::new()).await;
        let key = ground.channel("loja").await;
        let channel = ground.store.channel(key).await.expect("read").expect("a channel");
        let resting = |next_send_at| Channel { next_send_at, ..channel.clone() };
        let backlog = Backlog { channel: key, waiting: 3, oldest: NOW - 9_000 };
        for (next_send_at, age) in [(0, 9_000), (NOW - 9_001, 9_000), (NOW - 2_000, 2_000), (NOW, 0), (NOW + 5_000, 0)]
        {
            assert_eq!(due_age(&resting(next_send_at), Some(&backlog), NOW), Some(age), "{next_send_at}");
        }
        assert_eq!(due_age(&channel, None, NOW), Some(0));
        let mut change = ChannelChange::default();
        change.settings.insert("newRecipientsPerDay".to_owned(), json!(20));
        let settings = ChannelType::WhatsAppWeb.default_settings().changed(&change, &mut FieldErrors::default());
        assert_eq!(due_age(&Channel { settings, ..channel }, Some(&backlog), NOW), None);
    }
}
