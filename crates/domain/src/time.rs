//! Times and dates as callers write them: RFC 3339 and `YYYY-MM-DD`, in the Gregorian calendar.

use crate::clock::Millis;

const MILLIS_OF_DAY: i64 = 24 * 60 * 60 * 1_000;

/// Parses a time with its offset (RFC 3339). Fractions of a millisecond are dropped; the 60th second of a minute is the
/// first of the next minute.
pub fn parse_rfc3339(text: &str) -> Option<Millis> {
    if !text.is_ascii() || text.len() > 64 {
        return None;
    }
    let (date, rest) = text.split_at_checked(10)?;
    let days = parse_date(date)?;
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let (clock, rest) = rest.split_at_checked(8)?;
    let [b':', b':'] = [clock.as_bytes()[2], clock.as_bytes()[5]] else { return None };
    let (hour, minute, second) = (number(&clock[..2])?, number(&clock[3..5])?, number(&clock[6..])?);
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (fraction, offset) = match rest.strip_prefix('.') {
        Some(rest) => {
            let end = rest.find(|sign: char| !sign.is_ascii_digit()).filter(|end| *end > 0)?;
            let thousandths: String = rest[..end].chars().chain("00".chars()).take(3).collect();
            (number(&thousandths)?, &rest[end..])
        }
        None => (0, rest),
    };
    let seconds = hour * 3_600 + minute * 60 + second - offset_seconds(offset)?;
    Some(days * MILLIS_OF_DAY + seconds * 1_000 + fraction)
}

fn offset_seconds(text: &str) -> Option<i64> {
    if matches!(text, "Z" | "z") {
        return Some(0);
    }
    let (sign, rest) = match text.as_bytes().first()? {
        b'+' => (1, &text[1..]),
        b'-' => (-1, &text[1..]),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':').filter(|(hours, minutes)| hours.len() == 2 && minutes.len() == 2)?;
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 3_600 + minutes * 60))
}

/// Parses a date, as the days since 1970-01-01.
pub fn parse_date(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' {
        return None;
    }
    let (year, month, day) = (number(text.get(..4)?)?, number(text.get(5..7)?)?, number(text.get(8..)?)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return None,
    };
    (1..=last).contains(&day).then(|| days_of(year, month, day))
}

/// The date in the time zone where each day begins last, so that no caller's today is later.
pub fn latest_day(now: Millis) -> i64 {
    (now + MILLIS_OF_DAY * 14 / 24).div_euclid(MILLIS_OF_DAY)
}

/// Days from 1970-01-01 (Howard Hinnant, "chrono-compatible low-level date algorithms": the year begins in March, so that
/// the leap day is its last day).
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year - era * 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn number(digits: &str) -> Option<i64> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_their_offsets() {
        for (text, millis) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2026-11-24T12:26:15.403Z", 1_795_523_175_403),
            ("2026-11-24T09:26:15.403-03:00", 1_795_523_175_403),
            ("2026-11-24t17:56:15.4039+05:30", 1_795_523_175_403),
            ("2026-11-24 12:26:15.4z", 1_795_523_175_400),
            ("2024-02-29T23:59:60Z", 1_709_251_200_000),
            ("0000-03-01T00:00:00Z", -62_162_035_200_000),
        ] {
            assert_eq!(parse_rfc3339(text), Some(millis), "{text}");
        }
        for bad in [
            "",
            "2026-11-24",
            "2026-11-24T12:26:15",
            "2026-11-24T12:26Z",
            "2026-11-24T24:00:00Z",
            "2026-11-24T12:60:00Z",
            "2026-11-24T12:26:61Z",
            "2026-11-24T12:26:15.Z",
            "2026-11-24T12:26:15,4Z",
            "2026-11-24T12:26:15+0300",
            "2026-11-24T12:26:15+24:00",
            "2026-11-24T12:26:15Z ",
            "2026-11-24T12:26:+5Z",
            "2026-13-01T00:00:00Z",
            "20261-11-24T12:26:15Z",
            "２026-11-24T12:26:15Z",
        ] {
            assert_eq!(parse_rfc3339(bad), None, "{bad}");
        }
    }

    #[test]
    fn dates_exist() {
        for (text, days) in [("1970-01-01", Some(0)), ("1900-01-01", Some(-25_567)), ("2000-02-29", Some(11_016))] {
            assert_eq!(parse_date(text), days, "{text}");
        }
        for bad in
            ["1900-02-29", "2023-04-31", "2023-00-10", "2023-1-10", "23-01-10", "2023/01/10", "+023-01-10", "é23-01-1"]
        {
            assert_eq!(parse_date(bad), None, "{bad}");
        }
        assert_eq!(latest_day(MILLIS_OF_DAY * 10 / 24 - 1), 0);
        assert_eq!(latest_day(MILLIS_OF_DAY * 10 / 24), 1, "on the islands where a day begins first");
    }
}
