//! Times in settings, and their limits.

use std::time::Duration;

/// Reads a time with its unit.
///
/// # Errors
///
/// An example, for the person who typed it.
pub fn time(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "a time with its unit, such as 500ms, 90s, 15m or 24h".to_owned())
}

/// Longer than any load balancer keeps a connection.
const LONGEST_IDLE: Duration = Duration::from_hours(24);

pub fn time_of_a_connection(text: &str) -> Result<Duration, String> {
    time_at_least_a_second(text)
        .and_then(|time| if time > LONGEST_IDLE { Err("at most 24 hours".to_owned()) } else { Ok(time) })
}

/// Longer than any load balancer needs to notice.
const LONGEST_DRAIN: Duration = Duration::from_mins(10);

pub fn time_of_a_drain(text: &str) -> Result<Duration, String> {
    let time = time(text)?;
    if time > LONGEST_DRAIN { Err("at most 10 minutes".to_owned()) } else { Ok(time) }
}

pub fn time_at_least_a_second(text: &str) -> Result<Duration, String> {
    let time = time(text)?;
    if time < Duration::from_secs(1) { Err("at least one second".to_owned()) } else { Ok(time) }
}
