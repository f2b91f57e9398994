//! Query strings: every parameter is known, or the call is refused.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use recado_domain::address::Address;
use recado_domain::field_errors::{FieldErrors, REPEATED, UNKNOWN};
use recado_domain::phone::{Country, InvalidPhone, PhoneNumber};

use super::error::ApiError;

/// The number of items on a page, unless the caller names one.
pub const DEFAULT_LIMIT: usize = 20;
/// The most items on a page.
pub const MAX_LIMIT: usize = 100;

/// The items that a list counts and numbers; beyond them only a cursor leads.
pub const COUNTED: usize = 10_000;

const TOO_FAR: &str = "Use cursor para paginas alem de 10000 itens.";

/// Where a page begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start<C> {
    /// At the first item.
    First,
    /// Behind the place of a cursor.
    After(C),
    /// Behind this number of items, because the caller gave the number of a page. The items are counted.
    At(usize),
}

/// The parameters of a list.
pub struct Query {
    parameters: Vec<(String, String)>,
    errors: FieldErrors,
}

impl Query {
    /// Parses a query string. Each name must be one of these, and occur once.
    pub fn parse(text: Option<&str>, known: &[&str]) -> Self {
        let parts = text.unwrap_or_default().split('&').filter(|part| !part.is_empty());
        let mut query = Self { parameters: Vec::new(), errors: FieldErrors::default() };
        for part in parts {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let (name, value) = (decode(name), decode(value));
            if !known.contains(&&*name) {
                query.errors.push(name, UNKNOWN);
            } else if query.parameters.iter().any(|(earlier, _)| *earlier == name) {
                query.errors.push(name, REPEATED);
            } else {
                query.parameters.push((name, value));
            }
        }
        query
    }

    /// A parameter as `read` parses it. An invalid one adds an error with this text.
    pub fn get<T>(&mut self, name: &'static str, text: &'static str, read: impl Fn(&str) -> Option<T>) -> Option<T> {
        let (_, value) = self.parameters.iter().find(|(known, _)| known == name)?;
        let read = read(value);
        if read.is_none() {
            self.errors.push(name, text);
        }
        read
    }

    /// A parameter that is one of these names. The error lists them; `subject` begins it.
    pub fn one_of<T: Copy, const N: usize>(
        &mut self,
        name: &'static str,
        subject: &str,
        all: [T; N],
        named: impl Fn(T) -> &'static str,
    ) -> Option<T> {
        self.get_with(name, |given| {
            let found = all.into_iter().find(|one| named(*one) == given);
            found.ok_or_else(|| format!("{subject} deve ser {}.", listed(&all.map(&named))))
        })
    }

    /// A parameter that `read` parses. The error of `read` is the text of the field.
    pub fn get_with<T>(&mut self, name: &'static str, read: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let (_, value) = self.parameters.iter().find(|(known, _)| known == name)?;
        read(value).map_err(|text| self.errors.push(name, text)).ok()
    }

    /// A whole number in this range.
    pub fn whole<T>(&mut self, name: &'static str, text: &'static str, range: std::ops::RangeInclusive<T>) -> Option<T>
    where
        T: std::str::FromStr + PartialOrd,
    {
        self.get(name, text, |text| text.parse().ok().filter(|number| range.contains(number)))
    }

    /// The address of the recipient in `to`, as it is stored.
    pub fn recipient(&mut self, country: Option<Country>) -> Option<String> {
        const MALFORMED: &str = "O numero do destinatario deve estar no formato DDI+DDD+NUM.";
        let address = self.parsed("to", MALFORMED, |text| Address::parse(text, country));
        address.map(|address| address.as_str().to_owned())
    }

    /// The address of a sender, as it is stored.
    pub fn sender(&mut self, name: &'static str, country: Option<Country>) -> Option<String> {
        const MALFORMED: &str = "O numero do remetente deve estar no formato DDI+DDD+NUM.";
        let address = self.parsed(name, MALFORMED, |text| Address::parse(text, country));
        address.map(|address| address.as_str().to_owned())
    }

    /// A phone number. `malformed` is the parameter's own error text.
    pub fn phone(
        &mut self,
        name: &'static str,
        malformed: &'static str,
        country: Option<Country>,
    ) -> Option<PhoneNumber> {
        self.parsed(name, malformed, |text| PhoneNumber::parse(text, country))
    }

    fn parsed<T>(
        &mut self,
        name: &'static str,
        malformed: &'static str,
        parse: impl Fn(&str) -> Result<T, InvalidPhone>,
    ) -> Option<T> {
        let (_, value) = self.parameters.iter().find(|(known, _)| known == name)?;
        // A `+` that was not encoded has become a space, which still marks a country code.
        let international = value.strip_prefix(' ').filter(|rest| rest.starts_with(|sign: char| sign.is_ascii_digit()));
        let text = international.map_or_else(|| value.trim().to_owned(), |rest| format!("+{}", rest.trim()));
        parse(&text).map_err(|fault| self.errors.push(name, fault.text(malformed))).ok()
    }

    /// A switch: `true` or `false`.
    pub fn flag(&mut self, name: &'static str, text: &'static str) -> Option<bool> {
        self.get(name, text, |given| match given {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        })
    }

    /// A filter that is either `true` or left out.
    pub fn switch(&mut self, name: &'static str, text: &'static str) -> bool {
        self.get(name, text, |given| (given == "true").then_some(true)).unwrap_or(false)
    }

    /// Refuses these parameters, which this form of the list does not have.
    pub fn refuse(&mut self, names: &[&'static str], text: &'static str) {
        for name in names {
            if self.parameters.iter().any(|(given, _)| given == name) {
                self.errors.push(*name, text);
            }
        }
    }

    /// Where a page begins, in a list that has both numbered pages and cursors.
    pub fn start<C>(&mut self, limit: usize, read: impl Fn(&str) -> Option<C>) -> Start<C> {
        let given = |name: &str| self.parameters.iter().any(|(known, _)| known == name);
        let both = given("page") && given("cursor");
        let page = self.get("page", "A pagina deve ser um numero a partir de 1.", page_number);
        let cursor = self.get("cursor", CURSOR, read);
        match (page, cursor) {
            _ if both => self.errors.push("page", "Informe page ou cursor, nao ambos."),
            (Some(page), _) if page.saturating_mul(limit) > COUNTED => self.errors.push("page", TOO_FAR),
            (Some(page), _) => return Start::At((page - 1) * limit),
            (None, Some(cursor)) => return Start::After(cursor),
            (None, None) => {}
        }
        Start::First
    }

    /// The size of a page.
    pub fn limit(&mut self) -> usize {
        let in_range = |text: &str| text.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
        self.get("limit", "O limite deve ser um numero de 1 a 100.", in_range).unwrap_or(DEFAULT_LIMIT)
    }

    /// Refuses the call if there was an error.
    pub fn finish(self) -> Result<(), ApiError> {
        if self.errors.is_empty() { Ok(()) } else { Err(self.errors.into()) }
    }
}

/// A layer around a call without parameters. A parameter is refused, because the caller would believe that it was obeyed.
pub async fn refuse_all(request: Request, next: Next) -> Response {
    match Query::parse(request.uri().query(), &[]).finish() {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

/// Names as a list: `A, B ou C`.
fn listed(names: &[&str]) -> String {
    match names {
        [others @ .., last] if !others.is_empty() => format!("{} ou {last}", others.join(", ")),
        _ => names.concat(),
    }
}

/// The number of a page: digits alone, from 1 on.
fn page_number(text: &str) -> Option<usize> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    // So many digits that they are no number are a page that is too far.
    let number = Some(text).filter(|text| digits && !text.is_empty());
    number.map(|text| text.parse().unwrap_or(usize::MAX)).filter(|page| *page > 0)
}

/// The error of a cursor that names nothing in the list.
pub fn bad_cursor() -> ApiError {
    ApiError::field("cursor", CURSOR)
}

/// The error of a cursor in another form.
pub const CURSOR: &str = "Cursor invalido.";

/// Decodes percent-encoding and `+`. Bytes that are not UTF-8 become U+FFFD, which no parameter accepts.
fn decode(text: &str) -> String {
    String::from_utf8_lossy(&percent_decoded(&text.replace('+', " "))).into_owned()
}

/// Decodes percent-encoding. An invalid sequence stays as it is.
pub fn percent_decoded(text: &str) -> Vec<u8> {
    let hex = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if let (b'%', [high, low, after @ ..]) = (first, tail)
            && let (Some(high), Some(low)) = (hex(*high), hex(*low))
        {
            bytes.push(high << 4 | low);
            rest = after;
        } else {
            bytes.push(*first);
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_parameters_are_decoded_and_checked() {
        let mut query = Query::parse(Some("limit=5&to=%2B55%2011+9&x=1&limit=6&&empty"), &["limit", "to"]);
        assert_eq!(query.limit(), 5);
        assert_eq!(query.get("to", "bad", |text| Some(text.to_owned())), Some("+55 11 9".to_owned()));
        let mut errors = FieldErrors::default();
        errors.push("x", UNKNOWN);
        errors.push("limit", REPEATED);
        errors.push("empty", UNKNOWN);
        assert_eq!(query.finish(), Err(errors.into()));
    }

    #[test]
    fn a_list_begins_at_a_page_or_behind_a_cursor() {
        let start = |text: &str| {
            let mut query = Query::parse(Some(text), &["page", "cursor"]);
            let start = query.start(20, |text| (text != "x").then(|| text.to_owned()));
            query.finish().map(|()| start)
        };
        assert_eq!(start(""), Ok(Start::First));
        assert_eq!(start("page=1"), Ok(Start::At(0)));
        assert_eq!(start("page=500"), Ok(Start::At(9_980)));
        assert_eq!(start("cursor=7"), Ok(Start::After("7".to_owned())));
        let number = "A pagina deve ser um numero a partir de 1.";
        for (text, errors) in [
            ("page=501", &[("page", TOO_FAR)][..]),
            ("page=99999999999999999999999", &[("page", TOO_FAR)]),
            ("page=0", &[("page", number)]),
            ("page=%2B1", &[("page", number)]),
            ("page=", &[("page", number)]),
            ("cursor=x", &[("cursor", CURSOR)]),
            ("page=1&cursor=7", &[("page", "Informe page ou cursor, nao ambos.")]),
        ] {
            let mut expected = FieldErrors::default();
            errors.iter().for_each(|(name, text)| expected.push(*name, *text));
            assert_eq!(start(text), Err(expected.into()), "{text}");
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_all_names() {
        let read = |text: &str| {
            let mut query = Query::parse(Some(text), &["status"]);
            let found = query.one_of("status", "O status", ["A", "B", "C"], |name| name);
            query.finish().map(|()| found)
        };
        assert_eq!((read(""), read("status=B")), (Ok(None), Ok(Some("B"))));
        assert_eq!(read("status=b"), Err(ApiError::field("status", "O status deve ser A, B ou C.")));
    }

    #[test]
    fn limits_have_a_range() {
        for (text, expected) in [("limit=1", 1), ("limit=100", 100), ("", 20)] {
            let mut query = Query::parse(Some(text), &["limit"]);
            assert_eq!((query.limit(), query.finish()), (expected, Ok(())));
        }
        for text in ["limit=0", "limit=101", "limit=x", "limit=", "limit=-1", "limit=%zz"] {
            let mut query = Query::parse(Some(text), &["limit"]);
            query.limit();
            assert!(query.finish().is_err(), "{text}");
        }
    }
}
