//! `GET /v1/contacts`: the contacts of the caller's institution, by name.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use recado_domain::api_key::Scope;
use recado_domain::contact_book::{ContactFrom, ContactQuery, Source};
use recado_domain::incoming::IdentityKey;
use recado_domain::phone::BAD_PHONE;
use recado_domain::time::parse_rfc3339;
use serde_json::{Value, json};

use super::body::TAG_LIMIT;
use super::cursor::{LENGTH, Secret};
use super::{ContactView, example};
use crate::api::auth::{Caller, scope};
use crate::api::error::ApiError;
use crate::api::json::{self, CountedList, CountedPagination};
use crate::api::openapi::{Operation, schemas};
use crate::api::query::{Query, Start};
use crate::gateway::Gateway;

const PARAMETERS: [&str; 10] =
    ["limit", "page", "cursor", "search", "tags", "tagsAll", "phone", "optOut", "source", "updatedSince"];
/// Most characters that are searched.
const SEARCH_LIMIT: usize = 200;
/// Most tags of a filter.
const TAGS: usize = 20;

const BAD_SEARCH: &str = "A busca deve ter de 1 a 200 caracteres.";
const BAD_TAGS: &str = "Informe de 1 a 20 etiquetas de ate 50 caracteres, separadas por virgulas.";

/// Lists contacts; filters narrow the list.
pub async fn list(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::ContactsRead>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let mut query = Query::parse(query.as_deref(), &PARAMETERS);
    let limit = query.limit();
    let owner = (caller.institution, caller.environment);
    let secret = Secret::of(&gateway, owner);
    let start = query.start(limit, |text| secret.read(text));
    let search = query.get("search", BAD_SEARCH, |text| is_plain(text, SEARCH_LIMIT).then(|| text.trim().to_owned()));
    let phone = query.phone("phone", BAD_PHONE, gateway.country(caller.institution));
    let mut asked = ContactQuery {
        search: search.filter(|text| !text.is_empty()),
        tags: query.get("tags", BAD_TAGS, tags).unwrap_or_default(),
        tags_all: query.get("tagsAll", BAD_TAGS, tags).unwrap_or_default(),
        phone: phone.map(|phone| IdentityKey::phone(phone.digits())),
        opt_out: query.flag("optOut", "O filtro optOut deve ser true ou false."),
        source: query.get("source", "Origem desconhecida.", Source::from_name),
        updated_since: query.get("updatedSince", "O campo updatedSince deve ser uma data em RFC 3339.", parse_rfc3339),
        ..ContactQuery::of(owner, limit)
    };
    query.finish()?;
    asked.from = match &start {
        Start::First => ContactFrom::Start,
        Start::After(cursor) => ContactFrom::After(cursor.place(&gateway, owner, secret).await?),
        Start::At(offset) => ContactFrom::Offset(*offset),
    };
    let page = gateway.store.contacts(asked).await?;
    let data = page.contacts.iter().map(ContactView::new).collect();
    let offset = match start {
        Start::First => Some(0),
        Start::After(_) => None,
        Start::At(offset) => Some(offset),
    };
    let pagination = CountedPagination {
        total: page.total.map(|(total, _)| total as u64),
        total_is_minimum: page.total.and_then(|(_, minimum)| minimum.then_some(true)),
        limit,
        offset,
        next_cursor: page.next.map(|place| secret.write(&place)),
    };
    Ok(json::answer(StatusCode::OK, &CountedList { data, pagination }))
}

/// Whether a text is at most this long, and has no control character. (Bytes that are no text became U+FFFD.)
fn is_plain(text: &str, longest: usize) -> bool {
    (1..=longest).contains(&text.chars().count()) && !text.chars().any(is_odd)
}

fn is_odd(sign: char) -> bool {
    sign.is_control() || sign == '\u{fffd}'
}

fn tags(text: &str) -> Option<Vec<String>> {
    let tags: Vec<_> = text.split(',').collect();
    let valid = tags.len() <= TAGS && tags.iter().all(|tag| is_plain(tag, TAG_LIMIT));
    valid.then(|| tags.into_iter().map(str::to_owned).collect())
}

/// The operation in the OpenAPI document.
pub fn describe(operation: Operation<'_>) -> Operation<'_> {
    let page = json!({
        "data": [example()],
        "pagination": {"total": null, "limit": 20, "offset": 0, "nextCursor": null},
    });
    let cursor = json!({"type": "string", "pattern": format!("^[0-9a-f]{{{LENGTH}}}$")});
    operation
        .named("Contacts", "listContacts", "List contacts")
        .about(
            "By name, then by id. With `page` the items are counted, up to 10,000; further pages are found by \
             `nextCursor`. A page may be shorter than `limit`, or empty, and still have a `nextCursor`.",
        )
        .needs(Scope::ContactsRead)
        .numbered_pages(cursor)
        .query(
            "search",
            "Part of the name or the number, without case and accents; a number also as people write it.",
            search_schema(),
        )
        .query("tags", "Those with any of these tags, with commas between them.", tags_schema())
        .query("tagsAll", "Those with all of these tags, with commas between them.", tags_schema())
        .query("phone", "The one with this number.", schemas::phone("DDI+DDD+NUM."))
        .query("optOut", "Those that opted out, or those that did not.", json!({"type": "boolean"}))
        .query("source", "Those from here.", schemas::one_of(Source::ALL.map(Source::name)))
        .query("updatedSince", "Those changed at this time or later.", json!({"type": "string", "format": "date-time"}))
        .answers::<CountedList<ContactView>>(200, "A page of contacts.", page)
        .refuses([ApiError::Unavailable])
}

fn search_schema() -> Value {
    json!({"type": "string", "pattern": format!("^{}{{1,{SEARCH_LIMIT}}}$", schemas::class(|sign| !is_odd(sign)))})
}

fn tags_schema() -> Value {
    let tag = format!("{}{{1,{TAG_LIMIT}}}", schemas::class(|sign| !is_odd(sign) && sign != ','));
    json!({"type": "string", "pattern": format!("^{tag}(,{tag}){{0,{}}}$", TAGS - 1)})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_separated_by_commas() {
        assert_eq!(tags("vip"), Some(vec!["vip".to_owned()]));
        assert_eq!(tags("vip,não pagou"), Some(vec!["vip".to_owned(), "não pagou".to_owned()]));
        let (long, many) = ("x".repeat(51), vec!["x"; 21].join(","));
        for bad in ["", ",", "a,", "a,\n", &long, &many] {
            assert_eq!(tags(bad), None, "{bad:?}");
        }
    }
}
