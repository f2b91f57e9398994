//! The fields of every kind.

use serde_json::{Value, json};

use super::reader::{PhoneTexts, Reader};
use super::{Feature, FieldSpec, Form, GivenAddress, Parts, Rule, TO};
use crate::clock::Millis;
use crate::field_errors::FieldErrors;
use crate::ids::ConversationId;
use crate::{schema, text, time};

/// The most characters of a reference.
pub const REFERENCE_LIMIT: usize = 128;
/// The range of `ttlSeconds`.
pub const TTL: std::ops::RangeInclusive<u32> = 30..=2_592_000;
/// How far in the future a message may be scheduled, in milliseconds.
const AHEAD: std::ops::RangeInclusive<Millis> = 5_000..=90 * 24 * 60 * 60 * 1_000;
const SEND_AT: &str = "O campo sendAt deve ser uma data futura em RFC 3339.";
/// The error of a time in the future that is not within the limits.
const NOT_AHEAD: &str = "O campo sendAt deve estar entre 5 segundos e 90 dias no futuro.";
const RECIPIENT: PhoneTexts = PhoneTexts {
    missing: "O numero do destinatario e obrigatorio.",
    malformed: "O numero do destinatario deve estar no formato DDI+DDD+NUM.",
};
/// The field that names a conversation in place of the recipient.
pub const CONVERSATION: &str = "conversationId";
const BAD_CONVERSATION: &str = "O campo conversationId deve ser o id de uma conversa.";
const TWO_RECIPIENTS: &str = "Informe to ou conversationId, nao os dois.";
/// A quoted message is named by its id or by its network id.
const REPLY_TO: Rule = Rule::line(255);
const REFERENCE: Rule = Rule::line(REFERENCE_LIMIT);

/// The common fields, in the order in which their errors are reported.
pub const COMMON: &[FieldSpec] = &[
    FieldSpec::text(TO, "NUMBER", "The recipient's number, DDI+DDD+NUM, or the address of a chat", || {
        schema::address(
            "The recipient: country, area and number (DDI+DDD+NUM), or the `chat.address` of a received message.",
        )
    })
    .required(),
    FieldSpec::text(CONVERSATION, "ID", "In place of the recipient: the conversation to whose chat it is sent", || {
        json!({"type": "string", "format": "uuid", "description": "The conversation to whose chat it is sent, in place of `to`."})
    })
    .flag("conversation"),
    FieldSpec::text("replyTo", "ID", "Quote a message of this chat: its id, or its id on the network", || {
        reply_schema()
    })
    .flag("reply-to"),
    FieldSpec::text("sendAt", "TIME", "Send it then: RFC 3339 with an offset, 5 seconds to 90 days ahead", || {
        let about = "When it is to be sent: RFC 3339, 5 seconds to 90 days ahead.";
        json!({"anyOf": [{"type": "string", "format": "date-time", "description": about}, {"const": ""}, {"type": "null"}]})
    })
    .flag("send-at"),
    FieldSpec::text("ttlSeconds", "SECONDS", "Do not send it any more after this time, 30 to 2592000", || {
        json!({
            "type": ["integer", "null"], "minimum": TTL.start(), "maximum": TTL.end(),
            "description": "After that many seconds, counted from `sendAt` where that is given, it is not sent any more.",
        })
    })
    .of(Form::Number)
    .flag("ttl"),
    FieldSpec::text("reference", "TEXT", "Your own reference, shown with the message", || {
        let about = "The caller's own reference: it is shown with the message. It need not be unique.";
        let mut schema = schema::optional(&reference_pattern(), about);
        schema["anyOf"][0]["maxLength"] = REFERENCE_LIMIT.into();
        schema
    }),
];

/// The schema of the field that names a quoted message.
pub fn reply_schema() -> Value {
    schema::optional("^[!-~]{1,255}$", "The id of a message of this chat, or its network id: it is quoted.")
}

fn reference_pattern() -> String {
    format!("^{}+$", schema::class(text::shows))
}

/// The common fields of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Common {
    /// The recipient. `None`: the chat of the conversation, until the conversation was read.
    pub to: Option<GivenAddress>,
    /// The conversation that the call names in place of the recipient.
    pub conversation: Option<ConversationId>,
    /// The message that this message quotes: its id, or its network id.
    pub reply_to: Option<String>,
    /// The time of a scheduled message. [`is_schedulable`](Self::is_schedulable) checks that it is within the limits.
    pub send_at: Option<Millis>,
    /// How long the message may wait before it expires.
    pub ttl_seconds: Option<u32>,
    /// The caller's own reference.
    pub reference: Option<String>,
}

impl Common {
    pub(super) fn parse(reader: &mut Reader<'_, '_>) -> Result<Option<Self>, FieldErrors> {
        let (to, conversation) = recipient(reader)?;
        let reply_to = reader.optional("replyTo", &REPLY_TO)?;
        let send_at = reader.given("sendAt")?;
        let context = reader.context();
        let time = |text: String| {
            let at = time::parse_rfc3339(&text).ok_or(SEND_AT)?;
            if context.may_repeat { Ok(at) } else { ahead(at, context.now) }
        };
        let send_at = send_at.map(|text| text.map(time).transpose());
        let send_at = send_at.and_then(|time| reader.collect("sendAt", time));
        let ttl_seconds = reader.whole("ttlSeconds", TTL);
        let reference = reader.optional("reference", &REFERENCE)?;
        let visible = reference.as_ref().and_then(Option::as_ref).is_none_or(|text| text.chars().all(text::shows));
        if !visible {
            reader.fault("reference", "O campo reference contem caracteres invalidos.");
        }
        for (field, feature, given) in [
            ("replyTo", Feature::ReplyTo, reply_to.as_ref().is_some_and(Option::is_some)),
            ("sendAt", Feature::Schedule, send_at.flatten().is_some()),
            ("ttlSeconds", Feature::Own, ttl_seconds.flatten().is_some()),
            ("reference", Feature::Own, reference.as_ref().is_some_and(Option::is_some)),
        ] {
            if given {
                reader.asks_for(feature, field);
            }
        }
        let (Some(reply_to), Some(send_at), Some(ttl_seconds), Some(reference)) =
            (reply_to, send_at, ttl_seconds, reference)
        else {
            return Ok(None);
        };
        let is_known = to.is_some() || conversation.is_some();
        Ok(is_known.then_some(Self { to, conversation, reply_to, send_at, ttl_seconds, reference }))
    }

    /// Whether a message with this time can be accepted now. This is checked separately if the call may be a repetition: a
    /// call that is repeated after its time gets its first answer.
    ///
    /// # Errors
    ///
    /// The error of `sendAt`.
    pub fn is_schedulable(&self, now: Millis) -> Result<(), FieldErrors> {
        let checked = self.send_at.map_or(Ok(0), |at| ahead(at, now));
        checked.map(drop).map_err(|text| FieldErrors::one("sendAt", text))
    }

    pub(super) fn fingerprint<'a>(&'a self, parts: &mut Parts<'a>) {
        parts.push_named("replyTo", self.reply_to.as_deref().map(Into::into));
        parts.push_named("sendAt", self.send_at.map(|at| at.to_string().into()));
        parts.push_named("ttlSeconds", self.ttl_seconds.map(|seconds| seconds.to_string().into()));
        parts.push_named("reference", self.reference.as_deref().map(Into::into));
    }
}

/// The recipient, or the conversation in its place; neither, if one of them is invalid.
fn recipient(reader: &mut Reader<'_, '_>) -> Result<(Option<GivenAddress>, Option<ConversationId>), FieldErrors> {
    let given = reader.given(CONVERSATION)?;
    // With a conversation that is no text, the recipient is not missing.
    if given.is_none() && !reader.object().has(TO) {
        return Ok((None, None));
    }
    let Some(Some(conversation)) = given else {
        let to = reader.address(TO, &RECIPIENT)?;
        return Ok((to.filter(|_| given.is_some()), None));
    };
    if reader.given(TO)?.is_none_or(|to| to.is_some()) {
        reader.fault(CONVERSATION, TWO_RECIPIENTS);
        return Ok((None, None));
    }
    let conversation = conversation.parse().map_err(|_| BAD_CONVERSATION);
    Ok((None, reader.collect(CONVERSATION, conversation)))
}

/// The time, if a message can be scheduled for it. Otherwise the error.
fn ahead(at: Millis, now: Millis) -> Result<Millis, &'static str> {
    match at.saturating_sub(now) {
        wait if AHEAD.contains(&wait) => Ok(at),
        wait if wait > 0 => Err(NOT_AHEAD),
        _ => Err(SEND_AT),
    }
}

/// The error if the quoted message is not of the same chat.
pub const NOT_OF_THIS_CHAT: &str = "A mensagem citada nao pertence a esta conversa.";

/// The common fields, all present, for an example.
#[cfg(test)]
pub(super) fn every_common_field(body: &mut serde_json::Value) {
    for (name, value) in [
        ("replyTo", json!("3EB0459984FC15DDAB10A5")),
        ("sendAt", json!("1970-01-01T00:01:00Z")),
        ("ttlSeconds", json!(60)),
        ("reference", json!("pedido-4711")),
    ] {
        body[name] = value;
    }
}
