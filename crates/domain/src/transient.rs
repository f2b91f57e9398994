//! What networks report of people for the moment: who types, and who is online. Open streams receive it as events that have no
//! id and that nothing stores.

use std::time::Duration;

use crate::channel::ChannelKey;
use crate::clock::{Millis, millis};
use crate::event::ChatKind;
use crate::incoming::{Group, SenderIds};

/// One report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transient {
    /// The channel that the network tells.
    pub channel: ChannelKey,
    /// The group in which the person types.
    pub group: Option<Group>,
    /// The person.
    pub person: SenderIds,
    /// What the person does.
    pub state: TransientState,
    /// The time by our clock.
    pub at: Millis,
}

/// What a person does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransientState {
    /// The person types in a chat, or stops.
    Typing(Typing),
    /// The person is online.
    Online,
    /// The person is not online any more.
    Offline {
        /// When the person was last seen, by the network's clock, if the person shows it.
        last_seen_at: Option<Millis>,
    },
}

/// What a person does in a chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Typing {
    /// Writes a text.
    Composing,
    /// Records a voice message.
    Recording,
    /// Has stopped.
    Paused,
}

impl Typing {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Composing, Self::Recording, Self::Paused];

    /// The name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Composing => "composing",
            Self::Recording => "recording",
            Self::Paused => "paused",
        }
    }
}

impl TransientState {
    /// The name of the event.
    pub fn event(self) -> &'static str {
        match self {
            Self::Typing(_) => "typing.updated",
            Self::Online | Self::Offline { .. } => "presence.updated",
        }
    }

    /// The name of the state in the event.
    pub fn name(self) -> &'static str {
        match self {
            Self::Typing(typing) => typing.name(),
            Self::Online => "available",
            Self::Offline { .. } => "unavailable",
        }
    }

    /// Whether the state ends another one.
    fn is_end(self) -> bool {
        matches!(self, Self::Typing(Typing::Paused) | Self::Offline { .. })
    }
}

impl Transient {
    /// The kind of the chat.
    pub fn chat(&self) -> ChatKind {
        if self.group.is_some() { ChatKind::Group } else { ChatKind::Direct }
    }

    /// The least time between two states that one person begins in a chat.
    const INTERVAL: Duration = Duration::from_secs(1);
    /// How long a repeated state says nothing new. Networks repeat a state every few seconds as long as it lasts.
    pub const REPEATED: Duration = Duration::from_secs(10);

    /// Whether streams receive this after the last state of the same person in the same chat that they received. The end of a
    /// state always passes, because without it the person would type forever.
    pub fn passes(&self, (last, since): (TransientState, Millis)) -> bool {
        let elapsed = self.at - since;
        let is_same = self.state.event() == last.event() && self.state.name() == last.name();
        let interval = match (is_same, self.state.is_end()) {
            (true, _) => Self::REPEATED,
            (false, true) => Duration::ZERO,
            (false, false) => Self::INTERVAL,
        };
        // The clock may have been set back.
        elapsed < 0 || elapsed >= millis(interval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_begins_once_in_a_second_and_its_end_always_passes() {
        use TransientState::{Offline, Online};
        let typing = TransientState::Typing;
        let (composing, recording, paused) =
            (typing(Typing::Composing), typing(Typing::Recording), typing(Typing::Paused));
        let offline = |last_seen_at| Offline { last_seen_at };
        let table = [
            (composing, composing, 9_999, false),
            (composing, composing, 10_000, true),
            (composing, paused, 0, true),
            (paused, paused, 5_000, false),
            (paused, composing, 999, false),
            (paused, composing, 1_000, true),
            (composing, recording, 999, false),
            (composing, recording, 1_000, true),
            (composing, recording, -1, true),
            (Online, offline(None), 0, true),
            (offline(None), offline(Some(1)), 1_000, false),
        ];
        for (last, state, elapsed, passes) in table {
            let person = SenderIds::of_phone("5511977776666");
            let now = Transient { channel: 1, group: None, person, state, at: 20_000 + elapsed };
            assert_eq!(now.passes((last, 20_000)), passes, "{last:?} {state:?} {elapsed}");
        }
    }

    #[test]
    fn each_state_is_of_an_event_that_a_reader_can_name() {
        let typing = Typing::ALL.map(TransientState::Typing);
        for state in typing.into_iter().chain([TransientState::Online, TransientState::Offline { last_seen_at: None }])
        {
            assert!(crate::event::TRANSIENT.iter().any(|(name, _)| *name == state.event()), "{state:?}");
        }
    }
}
