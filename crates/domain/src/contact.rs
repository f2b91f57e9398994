//! The contact call's body: every faulty field at once, or a card that cannot be invalid.

use std::borrow::Cow;

use email_address::{EmailAddress, Options};

use crate::field_errors::{Field, FieldErrors};
use crate::phone::{Country, PhoneNumber};
use crate::text::{self, NameFault};

/// The fields of the contact call, in the order in which their errors are reported.
pub const FIELDS: [&str; 5] = ["to", "name", "phone", "email", "organization"];

/// Most code points in a name or an organisation.
pub const NAME_LIMIT: usize = 200;
/// Most characters in an e-mail address (RFC 5321, 4.5.3.1.3, less the angle brackets).
const EMAIL_LIMIT: usize = 254;

/// A number and how the caller wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenPhone {
    /// As the caller wrote it, without white space around it.
    pub given: String,
    /// What it means.
    pub number: PhoneNumber,
}

/// What stands on the card. Every text is trimmed, non-empty, and free of control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContactCard {
    /// Full name.
    pub name: String,
    /// The card's number.
    pub phone: GivenPhone,
    /// E-mail address.
    pub email: Option<String>,
    /// Organisation.
    pub organization: Option<String>,
}

/// A valid contact call: one card for one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContactMessage {
    /// The recipient.
    pub to: GivenPhone,
    /// The card.
    pub card: ContactCard,
}

impl ContactMessage {
    /// Reads the values of [`FIELDS`], in that order; numbers without a `+` also as they are written within `country`.
    pub fn parse(values: &[Field<'_>; 5], country: Option<Country>) -> Result<Self, FieldErrors> {
        let [to, name, phone, email, organization] = values;
        let mut errors = FieldErrors::default();
        let to = errors.take("to", parse_phone("to", to, country, &RECIPIENT));
        let name =
            errors.take("name", parse_name("name", name, &NAME).and_then(|name| name.ok_or(NAME.missing.into())));
        let phone = errors.take("phone", parse_phone("phone", phone, country, &PHONE));
        let email = errors.take("email", parse_email(email));
        let organization = errors.take("organization", parse_name("organization", organization, &ORGANIZATION));
        match (to, name, phone, email, organization) {
            (Some(to), Some(name), Some(phone), Some(email), Some(organization)) => {
                Ok(Self { to, card: ContactCard { name, phone, email, organization } })
            }
            _ => Err(errors),
        }
    }
}

struct PhoneTexts {
    missing: &'static str,
    malformed: &'static str,
}

const RECIPIENT: PhoneTexts = PhoneTexts {
    missing: "O numero do destinatario e obrigatorio.",
    malformed: "O numero do destinatario deve estar no formato DDI+DDD+NUM.",
};
const PHONE: PhoneTexts = PhoneTexts {
    missing: "O telefone do contato e obrigatorio.",
    malformed: "O telefone do contato deve estar no formato DDI+DDD+NUM.",
};

struct NameTexts {
    missing: &'static str,
    too_long: &'static str,
    characters: &'static str,
}

const NAME: NameTexts = NameTexts {
    missing: "O nome do contato e obrigatorio.",
    too_long: "O nome do contato deve ter no maximo 200 caracteres.",
    characters: "O nome do contato contem caracteres invalidos.",
};
const ORGANIZATION: NameTexts = NameTexts {
    // Never said: an organisation may be left out.
    missing: "",
    too_long: "A organizacao do contato deve ter no maximo 200 caracteres.",
    characters: "A organizacao do contato contem caracteres invalidos.",
};

fn parse_phone(
    name: &str,
    value: &Field<'_>,
    country: Option<Country>,
    texts: &PhoneTexts,
) -> Result<GivenPhone, Cow<'static, str>> {
    let given = value.text(name)?.ok_or(texts.missing)?;
    let number = PhoneNumber::parse(given, country).map_err(|fault| fault.text(texts.malformed))?;
    Ok(GivenPhone { given: given.to_owned(), number })
}

fn parse_name(name: &str, value: &Field<'_>, texts: &NameTexts) -> Result<Option<String>, Cow<'static, str>> {
    let Some(text) = value.text(name)? else { return Ok(None) };
    match text::check_name(text, NAME_LIMIT) {
        Ok(()) => Ok(Some(text.to_owned())),
        Err(NameFault::TooLong) => Err(texts.too_long.into()),
        Err(NameFault::Characters) => Err(texts.characters.into()),
    }
}

fn parse_email(value: &Field<'_>) -> Result<Option<String>, Cow<'static, str>> {
    let Some(text) = value.text("email")? else { return Ok(None) };
    let options = Options::default().with_required_tld().without_display_text().without_domain_literal();
    // The library takes any non-ASCII character for a letter; one that does not show would make two addresses look alike.
    // And takes any domain that mail syntax knows; only host names get mail from here.
    let host = text.rsplit_once('@').is_some_and(|(_, domain)| is_host_name(domain));
    let shows = text.chars().all(|character| character == ' ' || text::shows(character));
    if host && shows && text.chars().count() <= EMAIL_LIMIT && EmailAddress::parse_with_options(text, options).is_ok() {
        Ok(Some(text.to_owned()))
    } else {
        Err("O email do contato e invalido.".into())
    }
}

/// Labels of letters, digits and hyphens; the last is no number, or it would be an address of a machine.
fn is_host_name(domain: &str) -> bool {
    let of_labels = |character: char| character.is_alphanumeric() || matches!(character, '-' | '.');
    domain.chars().all(of_labels) && domain.rsplit('.').next().is_some_and(|last| last.chars().any(char::is_alphabetic))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(values: [&'static str; 5]) -> Result<ContactMessage, Vec<(String, String)>> {
        ContactMessage::parse(&values.map(Field::from), None).map_err(|errors| {
            errors.as_slice().iter().map(|error| (error.field.to_string(), error.message.to_string())).collect()
        })
    }

    const GOOD: [&str; 5] = ["5511999998888", "Maria Silva - Suporte", "5511988887777", "", ""];

    fn with(index: usize, value: &'static str) -> Result<ContactMessage, Vec<(String, String)>> {
        let mut values = GOOD;
        values[index] = value;
        parse(values)
    }

    #[test]
    fn the_seeds_card_is_read() {
        let message = parse(GOOD).unwrap();
        assert_eq!(message.card.name, "Maria Silva - Suporte");
        assert_eq!((message.card.email, message.card.organization), (None, None));
    }

    #[test]
    fn all_faults_come_in_the_tables_order() {
        let errors = ContactMessage::parse(
            &[Field::Absent, Field::WrongType, Field::from("12"), Field::from("x"), Field::Repeated],
            None,
        );
        let errors = errors.unwrap_err();
        let told: Vec<_> = errors.as_slice().iter().map(|error| (&*error.field, &*error.message)).collect();
        assert_eq!(
            told,
            [
                ("to", "O numero do destinatario e obrigatorio."),
                ("name", "O campo name deve ser uma string."),
                ("phone", "O telefone do contato deve estar no formato DDI+DDD+NUM."),
                ("email", "O email do contato e invalido."),
                ("organization", "Campo repetido."),
            ]
        );
    }

    #[test]
    fn blank_text_is_missing() {
        for blank in ["", "   ", "\t\n", "\u{3000}"] {
            assert_eq!(with(1, blank), Err(vec![("name".into(), "O nome do contato e obrigatorio.".into())]));
            assert_eq!(with(4, blank).map(|message| message.card.organization), Ok(None));
        }
    }

    #[test]
    fn text_that_does_not_show_is_malformed() {
        assert_eq!(
            with(1, "\u{200b}"),
            Err(vec![("name".into(), "O nome do contato contem caracteres invalidos.".into())])
        );
        assert_eq!(
            with(4, "A\u{202e}B"),
            Err(vec![("organization".into(), "A organizacao do contato contem caracteres invalidos.".into())])
        );
    }

    #[test]
    fn addresses() {
        for good in
            ["maria@exemplo.com.br", "josé@exemplo.com.br", "a+b@x.co", "\"a b\"@exemplo.com", "maria@münchen.de"]
        {
            assert!(with(3, good).is_ok(), "{good}");
        }
        let long: &'static str = Box::leak(format!("a@{}com", "exemplo.".repeat(40)).into_boxed_str());
        for bad in [
            "maria",
            "a@localhost",
            ".a@b.com",
            "a@[127.0.0.1]",
            "Maria <maria@exemplo.com>",
            "a@b..com",
            "a@b.com\r\nX:1",
            "a@-b.com",
            "@b.com",
            "a\u{200b}@b.com",
            "a@b\u{202e}.com",
            "a@b.com, c@d.com",
            long,
            "a@b/c.co",
            "a@b.123",
            "a@1.2.3.4",
            "a@b_c.de",
        ] {
            assert_eq!(with(3, bad), Err(vec![("email".into(), "O email do contato e invalido.".into())]), "{bad}");
        }
    }
}
