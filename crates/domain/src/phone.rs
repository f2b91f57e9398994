//! Phone numbers as the API takes them: DDI+DDD+NUM (country, area, number) in digits.
//!
//! A library with number plans is no help at the door: it refuses numbers that WhatsApp knows, such as Brazil's old
//! eight-digit mobiles. Only the network can say whether an account exists.

use std::fmt;

/// 8 to 15 ASCII digits, the first not 0 (E.164 without its `+`); for Brazil and North America also the plan's shape.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PhoneNumber(String);

/// The text is no phone number in the form DDI+DDD+NUM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a phone number in the form DDI+DDD+NUM")]
pub struct InvalidPhone;

/// Longer than any way a person writes fifteen digits; keeps what is stored "as given" small.
const LONGEST_AS_TYPED: usize = 64;

impl PhoneNumber {
    /// Reads digits, dropping one leading `+` and the signs people write between them: space `(` `)` `-` `.`
    pub fn parse(typed: &str) -> Result<Self, InvalidPhone> {
        if typed.len() > LONGEST_AS_TYPED {
            return Err(InvalidPhone);
        }
        let mut digits = String::with_capacity(15);
        for character in typed.strip_prefix('+').unwrap_or(typed).chars() {
            match character {
                '0'..='9' => digits.push(character),
                ' ' | '(' | ')' | '-' | '.' => {}
                _ => return Err(InvalidPhone),
            }
        }
        if follows_a_plan(digits.as_bytes()) { Ok(Self(digits)) } else { Err(InvalidPhone) }
    }

    /// The digits alone.
    pub fn digits(&self) -> &str {
        &self.0
    }

    /// A Brazilian mobile's other form, without its ninth digit or with it: networks know one person by either. `None`
    /// where eight digits begin with 2 to 5, because without the ninth they are somebody's landline.
    pub fn twin(&self) -> Option<Self> {
        let (area, local) = self.0.strip_prefix("55")?.split_at_checked(2)?;
        let eight = if local.len() == 9 { &local[1..] } else { local };
        let ninth = if local.len() == 9 { "" } else { "9" };
        eight.starts_with(['6', '7', '8', '9']).then(|| Self(format!("55{area}{ninth}{eight}")))
    }
}

fn follows_a_plan(digits: &[u8]) -> bool {
    match digits {
        // Brazil: two area digits without a zero; nine digits behind them are a mobile, which starts with 9.
        [b'5', b'5', area @ .., _, _, _, _, _, _, _, _] if area.len() >= 2 => {
            area[..2].iter().all(|digit| *digit != b'0')
                && match area.len() {
                    2 => true,
                    3 => area[2] == b'9',
                    _ => false,
                }
        }
        [b'5', b'5', ..] => false,
        // North America: ten digits, no area starts with 0 or 1.
        [b'1', rest @ ..] => rest.len() == 10 && rest[0] >= b'2',
        [first, ..] => *first != b'0' && (8..=15).contains(&digits.len()),
        [] => false,
    }
}

/// A log or a panic must not carry a person's number: only its last four digits show.
impl fmt::Debug for PhoneNumber {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PhoneNumber(…{})", &self.0[self.0.len() - 4..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signs_people_write_are_dropped() {
        for typed in ["5511999998888", "+5511999998888", "+55 (11) 99999-8888", "55.11.99999.8888", "+ 5511999998888"] {
            assert_eq!(PhoneNumber::parse(typed).map(|phone| phone.0), Ok("5511999998888".to_owned()), "{typed}");
        }
    }

    #[test]
    fn plans_are_followed() {
        let good = ["551133334444", "5511933334444", "12125550123", "351912345678", "49301234", "999999999999999"];
        for typed in good {
            assert!(PhoneNumber::parse(typed).is_ok(), "{typed}");
        }
        let bad = [
            "",
            "+",
            "1234567",
            "1234567890123456",
            "0511999998888",
            "55119999988",
            "55119999988889",
            "5501999998888",
            "5510999998888",
            "5511899998888",
            "11125550123",
            "121255501234",
            "2212555٠123",
            "++5511999998888",
            "55 11 99999 8888 ext 4",
            "５５11999998888",
            "5511\u{a0}999998888",
            "(+55)11999998888",
            "5511999998888;x",
        ];
        for typed in bad {
            assert_eq!(PhoneNumber::parse(typed), Err(InvalidPhone), "{typed}");
        }
    }

    #[test]
    fn a_mobile_of_brazil_has_two_forms() {
        let twin = |digits: &str| PhoneNumber::parse(digits).unwrap().twin().map(|twin| twin.0);
        assert_eq!(twin("5511999998888"), Some("551199998888".to_owned()));
        assert_eq!(twin("551199998888"), Some("5511999998888".to_owned()));
        // The shorter form is a landline's number, and another person's.
        for alone in ["5511933334444", "551133334444", "12125550123", "351912345678", "999999999999999"] {
            assert_eq!(twin(alone), None, "{alone}");
        }
    }

    #[test]
    fn debug_hides_the_number() {
        assert_eq!(format!("{:?}", PhoneNumber::parse("5511999998888").unwrap()), "PhoneNumber(…8888)");
    }
}
