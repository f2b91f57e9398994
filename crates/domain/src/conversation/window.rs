//! The time in which Meta lets a channel answer freely. It is an estimate from the messages that arrived: Meta decides.

use crate::clock::Millis;

/// How long the window stays open after a message of the person.
pub const WINDOW: Millis = 24 * 60 * 60 * 1_000;

/// The state of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowState {
    /// The network has no window.
    None,
    /// No message of the person is on record.
    Unknown,
    Open,
    Closed,
}

impl WindowState {
    /// The name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::Unknown => "UNKNOWN",
            Self::Open => "OPEN",
            Self::Closed => "CLOSED",
        }
    }
}

/// A window at a given time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub state: WindowState,
    /// When it closes, or closed.
    pub open_until: Option<Millis>,
}

impl Window {
    /// The window of a chat whose person last wrote at this time, by the network's clock.
    pub fn of(windowed: bool, person_wrote_at: Option<Millis>, now: Millis) -> Self {
        let open_until = person_wrote_at.map(|at| at + WINDOW);
        let state = match (windowed, open_until) {
            (false, _) => return Self { state: WindowState::None, open_until: None },
            (true, None) => WindowState::Unknown,
            (true, Some(until)) if until > now => WindowState::Open,
            (true, Some(_)) => WindowState::Closed,
        };
        Self { state, open_until }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_closes_a_day_after_the_persons_last_message() {
        let now = 100 * WINDOW;
        let table = [
            // Whether there is a window, when the person wrote: the state, and until when it is open.
            (false, Some(now), WindowState::None, None),
            (true, None, WindowState::Unknown, None),
            (true, Some(now), WindowState::Open, Some(now + WINDOW)),
            (true, Some(now - WINDOW + 1), WindowState::Open, Some(now + 1)),
            (true, Some(now - WINDOW), WindowState::Closed, Some(now)),
        ];
        for (windowed, wrote, state, open_until) in table {
            assert_eq!(Window::of(windowed, wrote, now), Window { state, open_until }, "{windowed} {wrote:?}");
        }
    }
}
