//! The events of a channel: each records a transition, its time, its actor and its reason.

#![expect(missing_docs, reason = "fields and variants are named as what they hold")]

use serde::{Deserialize, Serialize};

use crate::channel::{ChannelKey, ChannelState};
use crate::clock::Millis;
use crate::ids::ApiKeyId;

/// The actor that changed a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Actor {
    /// A caller of the API with this key.
    Key { id: ApiKeyId },
    /// The operator, at the command line.
    Operator,
    /// The channel's network, or the phone that links the channel.
    Network,
    /// Recado, by itself.
    Recado,
}

impl Actor {
    /// Who caused a change, for metrics: a person, the network, or the server by itself.
    pub fn cause(self) -> &'static str {
        match self {
            Self::Key { .. } | Self::Operator => "person",
            Self::Network => "network",
            Self::Recado => "server",
        }
    }

    /// The caller with this key; `None` is the operator.
    pub fn caller(key: Option<ApiKeyId>) -> Self {
        key.map_or(Self::Operator, |id| Self::Key { id })
    }
}

/// A transition of a channel from an expected state to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelMove {
    pub from: ChannelState,
    pub to: ChannelState,
    /// A text for people, in Portuguese.
    pub reason: Option<String>,
    pub by: Actor,
    pub at: Millis,
}

/// A recorded event of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelEvent {
    /// The number of the event, which orders all events.
    pub seq: i64,
    pub at: Millis,
    pub what: Recorded,
    /// The node that owned the channel, if nodes share the store.
    pub node: Option<String>,
}

/// The content of an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// `None`: the channel was created.
    pub from: Option<ChannelState>,
    /// `None`: the channel was deleted.
    pub to: Option<ChannelState>,
    pub reason: Option<String>,
    pub by: Actor,
    /// How long the channel opens no chats, where it is restricted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Millis>,
}

impl Recorded {
    /// The event of a created channel.
    pub fn creation(to: ChannelState, by: Actor) -> Self {
        Self { from: None, to: Some(to), reason: None, by, until: None }
    }

    /// The event of a deleted channel.
    pub fn deletion(from: ChannelState, by: Actor) -> Self {
        Self { from: Some(from), to: None, reason: None, by, until: None }
    }

    /// The kind of the event, named after the state that the channel has after it.
    pub fn kind(&self) -> &'static str {
        match (self.from, self.to) {
            (None, _) => "channel.created",
            (_, None) => "channel.deleted",
            (_, Some(state)) => match state {
                ChannelState::Created => "channel.reset",
                ChannelState::Connecting => "channel.connecting",
                ChannelState::Connected => "channel.connected",
                ChannelState::Disconnected => "channel.disconnected",
                ChannelState::Restricted => "channel.restricted",
                ChannelState::Paused => "channel.paused",
                ChannelState::LoggedOut => "channel.logged_out",
                ChannelState::Banned => "channel.banned",
            },
        }
    }

    /// Whether the newest event records the same already. A connection that stays closed is recorded once, and not at each
    /// failed try.
    pub fn repeats(&self, newest: &Self) -> bool {
        self.from == self.to && (self.to, &self.reason) == (newest.to, &newest.reason)
    }

    /// The stored form, as JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads the stored form; `None` if a newer version wrote another form.
    pub fn from_json(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

impl ChannelEventPage {
    /// The page of these rows. The query read one row more than the page may have.
    pub fn of(mut rows: Vec<StoredEvent>, limit: usize) -> Self {
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| more).map(|row| row.seq);
        Self { events: rows.into_iter().filter_map(StoredEvent::read).collect(), next }
    }
}

/// A row of a page.
#[derive(Debug, Clone)]
pub struct StoredEvent {
    pub seq: i64,
    pub at: Millis,
    pub data: String,
    pub node: Option<String>,
}

impl StoredEvent {
    /// The event; `None` if a newer version wrote another form.
    pub fn read(self) -> Option<ChannelEvent> {
        let Self { seq, at, data, node } = self;
        Some(ChannelEvent { seq, at, what: Recorded::from_json(&data)?, node })
    }
}

impl From<&ChannelMove> for Recorded {
    fn from(one: &ChannelMove) -> Self {
        Self { from: Some(one.from), to: Some(one.to), reason: one.reason.clone(), by: one.by, until: None }
    }
}

/// The most events that are kept of a channel. A connection that opens and closes for months must not fill the store.
pub const MAX_CHANNEL_EVENTS: i64 = 10_000;

/// A page of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelEventPage {
    /// Events that a newer version recorded are left out.
    pub events: Vec<ChannelEvent>,
    /// The event before which the next page begins, if there is one.
    pub next: Option<i64>,
}

/// A page of a channel's events, newest first.
#[derive(Debug, Clone, Copy)]
pub struct ChannelEventQuery {
    pub channel: ChannelKey,
    /// Only events before this one.
    pub before: Option<i64>,
    pub limit: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_event_is_parsed_back() {
        let id: ApiKeyId = ApiKeyId::new(1, [7; 10]);
        for by in [Actor::Key { id }, Actor::Operator, Actor::Network, Actor::Recado] {
            let what = Recorded {
                from: Some(ChannelState::Connected),
                to: Some(ChannelState::Paused),
                reason: None,
                by,
                until: None,
            };
            assert_eq!(Recorded::from_json(&what.to_json()), Some(what));
        }
        assert_eq!(Recorded::from_json(r#"{"from":"NEW"}"#), None);
        let by = serde_json::to_value(Actor::Key { id }).expect("JSON");
        assert_eq!(by, serde_json::json!({"type": "KEY", "id": id}));
    }

    #[test]
    fn a_row_of_a_newer_version_does_not_end_a_page() {
        let data = Recorded::creation(ChannelState::Created, Actor::Operator).to_json();
        let row = |seq: i64, data: &str| StoredEvent { seq, at: 1, data: data.to_owned(), node: None };
        let rows = vec![row(9, &data), row(8, r#"{"from":"NEW"}"#), row(7, &data)];
        let page = ChannelEventPage::of(rows.clone(), 2);
        assert_eq!((page.events.len(), page.next), (1, Some(8)));
        assert_eq!(ChannelEventPage::of(rows, 3).next, None);
    }

    #[test]
    fn only_a_move_that_changes_nothing_repeats() {
        let what = |from, to, reason: &str| Recorded {
            from: Some(from),
            to: Some(to),
            reason: Some(reason.to_owned()),
            by: Actor::Network,
            until: None,
        };
        let (up, down) = (ChannelState::Connected, ChannelState::Disconnected);
        let lost = what(up, down, "A linha caiu.");
        assert!(what(down, down, "A linha caiu.").repeats(&lost));
        assert!(!what(down, down, "Erro 503.").repeats(&lost));
        assert!(!lost.repeats(&lost), "it came back meanwhile");
        assert!(!what(up, up, "A linha caiu.").repeats(&lost));
    }

    #[test]
    fn an_event_is_named_by_the_state_that_follows() {
        let by = Actor::Network;
        assert_eq!(Recorded::creation(ChannelState::Created, by).kind(), "channel.created");
        assert_eq!(Recorded::deletion(ChannelState::Paused, by).kind(), "channel.deleted");
        let banned = Recorded {
            from: Some(ChannelState::Connected),
            to: Some(ChannelState::Banned),
            reason: None,
            by,
            until: None,
        };
        assert_eq!(banned.kind(), "channel.banned");
    }
}
