//! The link of a Cloud API channel: the ids and secrets of its number.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;
use std::ops::RangeInclusive;

use recado_domain::channel::types::cloud_api::{self, ID_LIMIT, LinkDetails, NumberInfo, SECRET_LIMIT, TOKEN_LIMIT};
use recado_domain::field_errors::{Field, FieldErrors};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::cloud_api::callback::is_signed;

/// The fields of a link, in the order in which their errors are reported.
pub const FIELDS: [&str; 5] = {
    let [phone_number_id, business_account_id, access_token, verify_token, app_secret] = cloud_api::CONNECT;
    [phone_number_id.name, business_account_id.name, access_token.name, verify_token.name, app_secret.name]
};

/// A number of the Cloud API with the credentials to use it. The ids have only digits, because they are part of URLs.
#[derive(Debug, Clone)]
pub struct Link {
    phone_number_id: String,
    business_account_id: String,
    number: NumberInfo,
    access_token: SecretString,
    verify_token: SecretString,
    /// The hash of the verify token.
    verifier: Fingerprint,
    app_secret: Option<SecretString>,
    /// The hash of the app's secret.
    app: Option<Fingerprint>,
}

/// The hash of a secret, computed once. Comparing hashes reveals nothing about the secret by its duration.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The hash of this text.
    pub fn of(text: &str) -> Self {
        Self(Sha256::digest(text).into())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Fingerprint")
    }
}

/// The secrets of a link in their stored form.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Secrets<'a> {
    #[serde(borrow)]
    access_token: Cow<'a, str>,
    #[serde(borrow)]
    verify_token: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    app_secret: Option<Cow<'a, str>>,
}

/// The beginning of the reason of a pause that ends by itself when the link can be used again.
pub const UNUSABLE: &str = "Ligacao indisponivel: ";

/// Why a stored link cannot be read. The text contains nothing of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnreadableLink {
    #[error("the link's details are not in their form")]
    Details,
    #[error("the link's secrets are not in their form")]
    Secrets,
}

impl Link {
    /// Parses the values of [`FIELDS`], in that order, or reports every invalid one. A value that is not given keeps that of
    /// the former link, so that a new token needs no other field.
    pub fn parse(values: &[Field<'_>; 5], former: Option<&Self>) -> Result<Self, FieldErrors> {
        let mut errors = FieldErrors::default();
        let mut given = |n: usize, rule: &Rule, former: Option<&str>, required: bool| -> Option<String> {
            let given = errors.collect(FIELDS[n], optional(FIELDS[n], &values[n], rule))?;
            let value = given.or(former).map(str::to_owned);
            if value.is_none() && required {
                errors.push(FIELDS[n], format!("O campo {} e obrigatorio.", FIELDS[n]));
            }
            value
        };
        let phone = given(0, &ID, former.map(Self::phone_number_id), true);
        let account = given(1, &ID, former.map(Self::business_account_id), true);
        let token = given(2, &TOKEN, former.map(|link| link.access_token.expose_secret()), true);
        let verify = given(3, &SECRET, former.map(|link| link.verify_token.expose_secret()), true);
        // An empty value removes the former one.
        let kept = former.filter(|_| values[4] == Field::Absent).and_then(Self::app_secret);
        let app = given(4, &SECRET, kept.map(ExposeSecret::expose_secret), false);
        match (phone, account, token, verify, errors.is_empty()) {
            (Some(phone_number_id), Some(business_account_id), Some(token), Some(verify), true) => Ok(Self {
                phone_number_id,
                business_account_id,
                number: NumberInfo::default(),
                access_token: token.into(),
                verifier: Fingerprint::of(&verify),
                verify_token: verify.into(),
                app: app.as_deref().map(Fingerprint::of),
                app_secret: app.map(SecretString::from),
            }),
            _ => Err(errors),
        }
    }

    /// The same link, with what Meta reports about its number.
    #[must_use]
    pub fn with_number(self, number: NumberInfo) -> Self {
        Self { number, ..self }
    }

    /// Parses [`Link::details`] and [`Link::secrets`].
    pub fn from_stored(details: &str, secrets: &SecretString) -> Result<Self, UnreadableLink> {
        let details = LinkDetails::parse(details).ok_or(UnreadableLink::Details)?;
        let secrets: Secrets<'_> =
            serde_json::from_str(secrets.expose_secret()).map_err(|_| UnreadableLink::Secrets)?;
        let ids_fit = ID.fits(&details.phone_number_id) && ID.fits(&details.business_account_id);
        let secrets_fit = TOKEN.fits(&secrets.access_token)
            && SECRET.fits(&secrets.verify_token)
            && secrets.app_secret.as_ref().is_none_or(|secret| SECRET.fits(secret));
        match (ids_fit, secrets_fit) {
            (false, _) => Err(UnreadableLink::Details),
            (_, false) => Err(UnreadableLink::Secrets),
            (true, true) => Ok(Self {
                phone_number_id: details.phone_number_id,
                business_account_id: details.business_account_id,
                number: details.number,
                access_token: secrets.access_token.into_owned().into(),
                verifier: Fingerprint::of(&secrets.verify_token),
                verify_token: secrets.verify_token.into_owned().into(),
                app: secrets.app_secret.as_deref().map(Fingerprint::of),
                app_secret: secrets.app_secret.map(|secret| secret.into_owned().into()),
            }),
        }
    }

    /// The part that is stored in clear, as JSON.
    pub fn details(&self) -> String {
        json(&LinkDetails {
            phone_number_id: self.phone_number_id.clone(),
            business_account_id: self.business_account_id.clone(),
            number: self.number.clone(),
            receipts: self.app_secret.is_some(),
        })
    }

    /// The part that is stored encrypted, as JSON.
    pub fn secrets(&self) -> SecretString {
        let secrets = Secrets {
            access_token: Cow::Borrowed(self.access_token.expose_secret()),
            verify_token: Cow::Borrowed(self.verify_token.expose_secret()),
            app_secret: self.app_secret.as_ref().map(|secret| Cow::Borrowed(secret.expose_secret())),
        };
        json(&secrets).into()
    }

    /// Whether the app signed the raw bytes of a callback.
    pub fn signed(&self, header: &str, body: &[u8]) -> bool {
        self.app_secret.as_ref().is_some_and(|secret| is_signed(secret, header, body))
    }

    /// Whether the same app signs the callbacks of both links.
    pub fn is_of_the_app_of(&self, other: &Self) -> bool {
        self.app.is_some() && self.app == other.app
    }

    /// The app, if callbacks of this link can be authenticated.
    pub fn app(&self) -> Option<Fingerprint> {
        self.app
    }

    /// The hash of the verify token.
    pub fn verifier(&self) -> Fingerprint {
        self.verifier
    }

    /// Meta's id of the number.
    pub fn phone_number_id(&self) -> &str {
        &self.phone_number_id
    }

    /// Meta's id of the WhatsApp business account (WABA) that owns the number.
    pub fn business_account_id(&self) -> &str {
        &self.business_account_id
    }

    /// What Meta reported about the number when the link was checked.
    pub fn number(&self) -> &NumberInfo {
        &self.number
    }

    /// The token for calls of the Graph API.
    pub fn access_token(&self) -> &SecretString {
        &self.access_token
    }

    /// The token that authenticates Meta's first call of our callback address.
    pub fn verify_token(&self) -> &SecretString {
        &self.verify_token
    }

    /// The secret of Meta's app, which signs callbacks.
    pub fn app_secret(&self) -> Option<&SecretString> {
        self.app_secret.as_ref()
    }
}

/// The texts that a field accepts.
struct Rule {
    length: RangeInclusive<usize>,
    of: fn(&u8) -> bool,
    what: &'static str,
}

const ID: Rule = Rule { length: 1..=ID_LIMIT, of: u8::is_ascii_digit, what: "digitos" };
const VISIBLE: &str = "caracteres ASCII visiveis, sem espacos";
const TOKEN: Rule = Rule { length: 1..=TOKEN_LIMIT, of: u8::is_ascii_graphic, what: VISIBLE };
const SECRET: Rule = Rule { length: 1..=SECRET_LIMIT, of: u8::is_ascii_graphic, what: VISIBLE };

impl Rule {
    fn fits(&self, text: &str) -> bool {
        self.length.contains(&text.len()) && text.as_bytes().iter().all(self.of)
    }
}

fn optional<'a>(name: &str, value: &'a Field<'_>, rule: &Rule) -> Result<Option<&'a str>, Cow<'static, str>> {
    match value.text(name)? {
        Some(text) if !rule.fits(text) => {
            Err(format!("O campo {name} deve ter de 1 a {} {}.", rule.length.end(), rule.what).into())
        }
        text => Ok(text),
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("texts can be written as JSON")
}
