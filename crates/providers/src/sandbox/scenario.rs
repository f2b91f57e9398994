//! The troubles that a test can order, by header or by the recipient's number.

/// One trouble. It touches the message that asked for it and no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// Refused for good.
    NumberNotOnWhatsapp,
    /// The line is down for five seconds.
    ChannelDisconnected,
    /// The network says "too fast" twice.
    RateLimit,
    /// No answer, and nothing taken, each time.
    Timeout,
    /// Taken, but the answer is lost.
    LostAnswer,
}

/// The scenarios that mean something for a card, with the number that brings each about. The vendor's
/// `media_too_large` means nothing here, so it is refused like any unknown name.
pub const CARD_SCENARIOS: [(&str, &str, Scenario); 5] = [
    ("number_not_on_whatsapp", "5511900000001", Scenario::NumberNotOnWhatsapp),
    ("channel_disconnected", "5511900000002", Scenario::ChannelDisconnected),
    ("rate_limit", "5511900000003", Scenario::RateLimit),
    ("timeout", "5511900000004", Scenario::Timeout),
    ("lost_answer", "5511900000005", Scenario::LostAnswer),
];

impl Scenario {
    /// The scenario with this name in the header.
    pub fn from_name(name: &str) -> Option<Self> {
        CARD_SCENARIOS.iter().find(|(known, ..)| *known == name).map(|(.., scenario)| *scenario)
    }

    /// The name as it stands in the header, when there is such a scenario.
    pub fn name_of(name: &str) -> Option<&'static str> {
        CARD_SCENARIOS.iter().find(|(known, ..)| *known == name).map(|(known, ..)| *known)
    }

    /// The scenario that a recipient's number stands for.
    pub fn of_number(digits: &str) -> Option<Self> {
        CARD_SCENARIOS.iter().find(|(_, known, _)| *known == digits).map(|(.., scenario)| *scenario)
    }
}
