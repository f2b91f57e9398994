//! The failures that a test can request, by header or by the recipient's number.

/// A failure. It applies only to the message that requested it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// Refused permanently.
    NumberNotOnWhatsapp,
    /// The connection is closed for five seconds.
    ChannelDisconnected,
    /// The network throttles the message twice.
    RateLimit,
    /// No answer, and the message is not accepted, each time.
    Timeout,
    /// The message is accepted, but the answer is lost.
    LostAnswer,
}

/// The scenarios that apply to a message, with the number that causes each. The vendor's `media_too_large` has no meaning
/// here, so it is refused like any unknown name.
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

    /// The name as the header has it, if there is such a scenario.
    pub fn name_of(name: &str) -> Option<&'static str> {
        CARD_SCENARIOS.iter().find(|(known, ..)| *known == name).map(|(known, ..)| *known)
    }

    /// The scenario of a recipient's number.
    pub fn of_number(digits: &str) -> Option<Self> {
        CARD_SCENARIOS.iter().find(|(_, known, _)| *known == digits).map(|(.., scenario)| *scenario)
    }
}
