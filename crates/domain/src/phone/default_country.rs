//! The default country of an institution, and how it combines with the server's.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Country;

/// How numbers of an institution without a `+` and a country code are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DefaultCountry {
    /// As the setting of the server says.
    #[default]
    Server,
    /// They are refused, even if the server has a default country.
    None,
    /// As numbers of this country.
    Country(Country),
}

/// The name is not a default country.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the two letters of a country, such as BR; or server, or none")]
pub struct UnknownDefaultCountry;

impl DefaultCountry {
    /// The default country on a server with this setting.
    pub fn or(self, server: Option<Country>) -> Option<Country> {
        match self {
            Self::Server => server,
            Self::None => None,
            Self::Country(country) => Some(country),
        }
    }

    /// The stored form; `None` if the setting of the server applies.
    pub fn stored(&self) -> Option<&'static str> {
        (*self != Self::Server).then(|| self.name())
    }

    /// Reads the stored form. A country that only a newer version knows counts as no country, so no number is read as
    /// another one.
    pub fn of_stored(stored: Option<&str>) -> Self {
        stored.map_or(Self::Server, |name| name.parse().unwrap_or(Self::None))
    }

    fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::None => "none",
            Self::Country(country) => country.letters(),
        }
    }
}

impl fmt::Display for DefaultCountry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for DefaultCountry {
    type Err = UnknownDefaultCountry;

    fn from_str(name: &str) -> Result<Self, UnknownDefaultCountry> {
        match name {
            "server" => Ok(Self::Server),
            "none" => Ok(Self::None),
            letters => letters.parse().map(Self::Country).map_err(|_| UnknownDefaultCountry),
        }
    }
}

impl TryFrom<String> for DefaultCountry {
    type Error = UnknownDefaultCountry;

    fn try_from(name: String) -> Result<Self, UnknownDefaultCountry> {
        name.parse()
    }
}

impl From<DefaultCountry> for String {
    fn from(country: DefaultCountry) -> Self {
        country.name().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stored_form_is_parsed_back() {
        let brazil = DefaultCountry::Country("BR".parse().expect("a country"));
        for (country, stored) in
            [(DefaultCountry::Server, None), (DefaultCountry::None, Some("none")), (brazil, Some("BR"))]
        {
            assert_eq!(country.stored(), stored);
            assert_eq!(DefaultCountry::of_stored(stored), country);
            assert_eq!(country.to_string().parse(), Ok(country));
        }
        assert_eq!(DefaultCountry::of_stored(Some("QQ")), DefaultCountry::None, "a country of a newer version");
        assert_eq!("QQ".parse::<DefaultCountry>(), Err(UnknownDefaultCountry));
    }

    #[test]
    fn the_setting_of_the_server_applies_only_if_the_institution_has_none() {
        let (brazil, france) = ("BR".parse().ok(), "FR".parse::<Country>().expect("a country"));
        assert_eq!(DefaultCountry::Server.or(brazil), brazil);
        assert_eq!(DefaultCountry::None.or(brazil), None);
        assert_eq!(DefaultCountry::Country(france).or(brazil), Some(france));
    }
}
