//! The events that a reader receives.

use std::fmt;

use super::{ChatKind, EVENTS, Event, TRANSIENT, scope_of};
use crate::api_key::{Scope, Scopes};
use crate::channel::ChannelKey;

/// Every event that a reader can name, stored or not, with its scope.
fn known() -> impl Iterator<Item = (&'static str, Scope)> {
    EVENTS.into_iter().chain(TRANSIENT)
}

/// One pattern: a name, `message.*`, or `*`; in the event log also with `!` before it, which excludes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    excludes: bool,
    text: String,
}

impl Pattern {
    /// Reads a pattern; `None` if it matches no known event.
    fn parse(text: &str, may_exclude: bool) -> Option<Self> {
        let (excludes, positive) = match text.strip_prefix('!') {
            Some(rest) if may_exclude => (true, rest),
            Some(_) => return None,
            None => (false, text),
        };
        let pattern = Self { excludes, text: positive.to_owned() };
        known().any(|(name, _)| pattern.covers(name)).then_some(pattern)
    }

    fn covers(&self, name: &str) -> bool {
        match self.text.strip_suffix('*') {
            Some("") => true,
            Some(group) => group.ends_with('.') && name.starts_with(group),
            None => self.text == name,
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.excludes { "!" } else { "" }, self.text)
    }
}

/// Patterns of names of events.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Patterns(Vec<Pattern>);

impl Patterns {
    /// Most patterns of one reader.
    pub const LIMIT: usize = 64;

    /// Reads patterns. The error is the first one that names no event.
    pub fn parse<T: AsRef<str>>(texts: &[T], may_exclude: bool) -> Result<Self, String> {
        let pattern = |text: &T| Pattern::parse(text.as_ref(), may_exclude).ok_or_else(|| text.as_ref().to_owned());
        texts.iter().map(pattern).collect::<Result<_, _>>().map(Self)
    }

    /// Reads stored patterns, which are separated by spaces. Patterns that only a newer version knows are skipped.
    pub fn from_stored(text: &str) -> Self {
        Self(text.split_whitespace().filter_map(|text| Pattern::parse(text, true)).collect())
    }

    /// The event log of an institution that has set none: all but `message.queued`.
    pub fn default_log() -> Self {
        Self::from_stored("* !message.queued")
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn texts(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }

    pub fn stored(&self) -> String {
        self.texts().join(" ")
    }

    /// Whether no event is wanted: there is no pattern, or each included name is excluded.
    pub fn matches_none(&self) -> bool {
        !EVENTS.iter().any(|(name, _)| self.matches(name))
    }

    /// Whether events of this name are wanted.
    pub fn matches(&self, name: &str) -> bool {
        let covers = |excludes| self.0.iter().any(|pattern| pattern.excludes == excludes && pattern.covers(name));
        covers(false) && !covers(true)
    }

    /// The scopes that a key needs for the names and groups of these patterns. `*` needs no scope: it gives the events
    /// that the key may read.
    pub fn needed_scopes(&self) -> Scopes {
        let named = self.0.iter().filter(|pattern| !pattern.excludes && pattern.text != "*");
        named.flat_map(|pattern| known().filter(|(name, _)| pattern.covers(name))).map(|(_, scope)| scope).collect()
    }

    /// The first pattern that covers only [`TRANSIENT`] events.
    pub fn transient(&self) -> Option<String> {
        let is_stored = |pattern: &Pattern| EVENTS.iter().any(|(name, _)| pattern.covers(name));
        self.0.iter().find(|pattern| !is_stored(pattern)).map(ToString::to_string)
    }
}

/// What a reader receives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    pub events: Patterns,
    /// `None`: all channels.
    pub channels: Option<Vec<ChannelKey>>,
    /// The kinds of chats, for events of a chat.
    pub chats: Vec<ChatKind>,
    /// The scopes of the reader's key.
    pub scopes: Scopes,
}

/// Whether events of this name belong to a chat. The kinds of chats limit these events alone: that a channel was logged out, or
/// a contact was created, concerns readers of every kind.
fn is_of_a_chat(name: &str) -> bool {
    ["message.", "conversation.", "group.", "typing."].into_iter().any(|group| name.starts_with(group))
}

impl Filter {
    /// Whether the reader receives this event.
    pub fn accepts(&self, event: &Event) -> bool {
        let channel = event.channel.as_ref().map(|channel| channel.key);
        event.is_public()
            && scope_of(&event.kind).is_some_and(|scope| self.scopes.allows(scope))
            && self.takes(&event.kind, channel, event.chat)
    }

    /// Whether the reader receives a [`TRANSIENT`] event of this name.
    pub fn accepts_transient(&self, name: &str, channel: ChannelKey, chat: ChatKind) -> bool {
        self.transient_names().any(|known| known == name) && self.takes(name, Some(channel), chat)
    }

    /// The [`TRANSIENT`] events that the reader asks for and may read.
    pub fn transient_names(&self) -> impl Iterator<Item = &'static str> {
        let names =
            TRANSIENT.into_iter().filter(|(name, scope)| self.events.matches(name) && self.scopes.allows(*scope));
        names.map(|(name, _)| name)
    }

    fn takes(&self, name: &str, channel: Option<ChannelKey>, chat: ChatKind) -> bool {
        self.events.matches(name)
            && self.channels.as_ref().is_none_or(|keys| channel.is_some_and(|channel| keys.contains(&channel)))
            && (!is_of_a_chat(name) || self.chats.contains(&chat))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::event;
    use super::*;

    #[test]
    fn a_pattern_is_a_name_a_group_or_everything() {
        let matches = |texts: &[&str], name| Patterns::parse(texts, true).expect("patterns").matches(name);
        assert!(matches(&["*"], "message.sent") && matches(&["message.*"], "message.sent"));
        assert!(matches(&["message.sent"], "message.sent") && !matches(&["message.sent"], "message.read"));
        assert!(!matches(&["*", "!message.queued"], "message.queued"));
        assert!(matches(&["*", "!message.queued"], "message.sent"));
        for bad in ["", "message", "message.", "mess*", "message.none", "nothing.*", "**", "!", "! *"] {
            assert_eq!(Patterns::parse(&[bad], true), Err(bad.to_owned()));
        }
        assert_eq!(Patterns::parse(&["!message.*"], false), Err("!message.*".to_owned()));
        let transient = |text: &str| Patterns::from_stored(text).transient();
        assert_eq!(transient("* message.sent"), None);
        assert_eq!(transient("message.* !presence.*").as_deref(), Some("!presence.*"));
        assert_eq!(transient("typing.updated").as_deref(), Some("typing.updated"));
        let needed = |text: &str| Patterns::from_stored(text).needed_scopes().names();
        assert_eq!((needed("*"), needed("* channel.paused")), (vec![], vec!["channels.read"]));
        assert_eq!(needed("message.* contact.created"), ["messages.read", "contacts.read"]);
        assert_eq!((needed("typing.*"), needed("presence.updated")), (vec!["messages.read"], vec!["contacts.read"]));
        let stored = Patterns::default_log().stored();
        assert_eq!((stored.as_str(), Patterns::from_stored(&stored)), ("* !message.queued", Patterns::default_log()));
    }

    #[test]
    fn a_reader_receives_what_it_asks_for_and_may_read() {
        let all = Filter {
            events: Patterns::from_stored("*"),
            channels: None,
            chats: vec![ChatKind::Direct],
            scopes: [Scope::ContactsRead].into_iter().collect(),
        };
        let contact = Event { kind: "contact.created".to_owned(), complete: true, ..event(1) };
        assert!(all.accepts(&contact));
        assert!(!all.accepts(&Event { kind: "conversation.created".to_owned(), ..contact.clone() }), "no scope");
        let messages = Filter { scopes: [Scope::MessagesRead].into_iter().collect(), ..all.clone() };
        let message = Event { kind: "message.received".to_owned(), ..contact.clone() };
        assert!(messages.accepts(&message) && !messages.accepts(&Event { chat: ChatKind::Group, ..message }));
        let of_groups = Filter { chats: vec![ChatKind::Group], ..all.clone() };
        assert!(of_groups.accepts(&contact), "a contact is of no chat");
        assert!(!Filter { channels: Some(vec![1]), ..all.clone() }.accepts(&contact), "of no channel");
        assert!(!all.accepts(&Event { kind: "message.sending".to_owned(), ..contact }), "an inner event");
    }

    #[test]
    fn a_stream_filters_what_nothing_stores_in_the_same_way() {
        let messages = Filter {
            events: Patterns::from_stored("*"),
            channels: None,
            chats: vec![ChatKind::Direct],
            scopes: [Scope::MessagesRead].into_iter().collect(),
        };
        let types = |filter: &Filter, chat| filter.accepts_transient("typing.updated", 1, chat);
        assert!(types(&messages, ChatKind::Direct) && !types(&messages, ChatKind::Group));
        assert!(!messages.accepts_transient("presence.updated", 1, ChatKind::Direct), "no scope");
        assert!(!messages.accepts_transient("message.sent", 1, ChatKind::Direct), "a stored event");
        assert_eq!(messages.transient_names().collect::<Vec<_>>(), ["typing.updated"]);
        let other = Filter { channels: Some(vec![2]), ..messages.clone() };
        assert!(!types(&other, ChatKind::Direct));
        let of_messages = Filter { events: Patterns::from_stored("message.*"), ..messages };
        assert!(!types(&of_messages, ChatKind::Direct));
        let stored = Event { kind: "typing.updated".to_owned(), complete: true, ..event(1) };
        assert!(!other.accepts(&stored), "no row has this name");
    }
}
