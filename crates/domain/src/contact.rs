//! The contact call's body: every faulty field at once, or a card that cannot be invalid.

use std::borrow::Cow;

use crate::email;
use crate::field_errors::{Field, FieldErrors};
use crate::phone::{Country, PhoneNumber};
use crate::text::{self, NameFault};

/// The fields of the contact call, in the order in which their errors are reported.
pub const FIELDS: [&str; 7] = ["to", "name", "phone", "email", "organization", "firstName", "lastName"];

/// Most code points in a name or an organisation.
pub const NAME_LIMIT: usize = 200;
/// Most code points in a first or a last name.
pub const PART_LIMIT: usize = 100;

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
    /// The part of the name by which an address book does not sort.
    pub first_name: Option<String>,
    /// The part of the name by which an address book sorts.
    pub last_name: Option<String>,
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
    pub fn parse(values: &[Field<'_>; 7], country: Option<Country>) -> Result<Self, FieldErrors> {
        let [to, name, phone, email, organization, first, last] = values;
        let mut errors = FieldErrors::default();
        let to = errors.take("to", parse_phone("to", to, country, &RECIPIENT));
        let name =
            errors.take("name", parse_name("name", name, &NAME).and_then(|name| name.ok_or(NAME.missing.into())));
        let phone = errors.take("phone", parse_phone("phone", phone, country, &PHONE));
        let email = errors.take("email", parse_email(email));
        let organization = errors.take("organization", parse_name("organization", organization, &ORGANIZATION));
        let first = errors.take("firstName", parse_name("firstName", first, &FIRST));
        let last = errors.take("lastName", parse_name("lastName", last, &LAST));
        match (to, name, phone, email, organization, first, last) {
            (Some(to), Some(name), Some(phone), Some(email), Some(organization), Some(first_name), Some(last_name)) => {
                Ok(Self { to, card: ContactCard { name, phone, email, organization, first_name, last_name } })
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
    limit: usize,
    missing: &'static str,
    too_long: &'static str,
    characters: &'static str,
}

const NAME: NameTexts = NameTexts {
    limit: NAME_LIMIT,
    missing: "O nome do contato e obrigatorio.",
    too_long: "O nome do contato deve ter no maximo 200 caracteres.",
    characters: "O nome do contato contem caracteres invalidos.",
};
const ORGANIZATION: NameTexts = NameTexts {
    limit: NAME_LIMIT,
    // Never said: an organisation may be left out.
    missing: "",
    too_long: "A organizacao do contato deve ter no maximo 200 caracteres.",
    characters: "A organizacao do contato contem caracteres invalidos.",
};
const FIRST: NameTexts = NameTexts {
    limit: PART_LIMIT,
    missing: "",
    too_long: "O primeiro nome do contato deve ter no maximo 100 caracteres.",
    characters: "O primeiro nome do contato contem caracteres invalidos.",
};
const LAST: NameTexts = NameTexts {
    limit: PART_LIMIT,
    missing: "",
    too_long: "O sobrenome do contato deve ter no maximo 100 caracteres.",
    characters: "O sobrenome do contato contem caracteres invalidos.",
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
    match text::check_name(text, texts.limit) {
        Ok(()) => Ok(Some(text.to_owned())),
        Err(NameFault::TooLong) => Err(texts.too_long.into()),
        Err(NameFault::Characters) => Err(texts.characters.into()),
    }
}

fn parse_email(value: &Field<'_>) -> Result<Option<String>, Cow<'static, str>> {
    let Some(text) = value.text("email")? else { return Ok(None) };
    if email::is_valid(text) { Ok(Some(text.to_owned())) } else { Err("O email do contato e invalido.".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(values: [&'static str; 7]) -> Result<ContactMessage, Vec<(String, String)>> {
        ContactMessage::parse(&values.map(Field::from), None).map_err(|errors| {
            errors.as_slice().iter().map(|error| (error.field.to_string(), error.message.to_string())).collect()
        })
    }

    const GOOD: [&str; 7] = ["5511999998888", "Maria Silva - Suporte", "5511988887777", "", "", "", ""];

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
            &[
                Field::Absent,
                Field::WrongType,
                Field::from("12"),
                Field::from("x"),
                Field::Repeated,
                Field::WrongType,
                Field::Repeated,
            ],
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
                ("firstName", "O campo firstName deve ser uma string."),
                ("lastName", "Campo repetido."),
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
    fn parts_of_the_name_are_optional_and_short() {
        let message = with(5, " Maria ").unwrap();
        assert_eq!((message.card.first_name.as_deref(), message.card.last_name), (Some("Maria"), None));
        assert_eq!(with(6, "").unwrap().card.last_name, None);
        let long: &'static str = Box::leak("é".repeat(101).into_boxed_str());
        assert_eq!(with(6, &long[2..]).unwrap().card.last_name.as_deref(), Some(&long[2..]));
        let told = |field: &str, message: &str| Err(vec![(field.to_owned(), message.to_owned())]);
        assert_eq!(with(5, long), told("firstName", "O primeiro nome do contato deve ter no maximo 100 caracteres."));
        assert_eq!(with(6, long), told("lastName", "O sobrenome do contato deve ter no maximo 100 caracteres."));
        assert_eq!(with(5, "\u{e000}"), told("firstName", "O primeiro nome do contato contem caracteres invalidos."));
        assert_eq!(with(6, "a\nb"), told("lastName", "O sobrenome do contato contem caracteres invalidos."));
    }

    #[test]
    fn an_address_is_kept_as_given() {
        assert_eq!(with(3, "Jose\u{301}@Exemplo.com").unwrap().card.email.as_deref(), Some("Jose\u{301}@Exemplo.com"));
        assert_eq!(with(3, "maria"), Err(vec![("email".into(), "O email do contato e invalido.".into())]));
    }
}
