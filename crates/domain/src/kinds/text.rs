//! The kind `text`.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Feature, FieldSpec, Form, MessageKind, Parts, Reader, Rule};
use crate::channel::ChannelType;
use crate::field_errors::FieldErrors;
use crate::schema;

/// The most characters of a text.
pub const LIMIT: usize = 4_096;
const CONTENT: Rule = Rule::lines(LIMIT);

/// A text as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Text {
    /// The text.
    pub text: Body,
}

/// The content of the message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Body {
    /// The text.
    pub content: String,
    /// Whether a preview of the first address in the text is added.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub link_preview: bool,
}

impl MessageKind for Text {
    const NAME: &'static str = "text";
    const TITLE: (&'static str, &'static str) = ("Send a text", "sendText");
    const BODY: &'static str = "TextCall";
    const ABOUT: &'static str =
        "A text and its recipient. `text` is another name of `content`; one of the two is given.";
    const FIELDS: &'static [FieldSpec] = &[
        FieldSpec::text("content", "TEXT", "The text", || schema::lines(LIMIT, true)).of(Form::Lines).required(),
        FieldSpec::text("text", "TEXT", "Another name of content", || schema::lines(LIMIT, true)).of(Form::Alias),
        FieldSpec::text("linkPreview", "BOOL", "Add a card for the first address in the text", || {
            json!({"type": ["boolean", "null"], "default": false, "description": "`true` is not offered by any channel yet."})
        })
        .of(Form::Flag)
        .flag("link-preview"),
    ];

    fn parse(reader: &mut Reader<'_, '_>) -> Result<Option<Self>, FieldErrors> {
        let is_given = |name| reader.object().has(name);
        let (content, alias) = (is_given("content"), is_given("text"));
        let content = if content && alias {
            reader.only_one_of("content", &["content", "text"]);
            None
        } else {
            reader.required(if alias { "text" } else { "content" }, &CONTENT)?
        };
        let link_preview = reader.flag("linkPreview");
        if link_preview == Some(true) {
            reader.asks_for(Feature::LinkPreview, "linkPreview");
        }
        let (Some(content), Some(link_preview)) = (content, link_preview) else { return Ok(None) };
        Ok(Some(Self { text: Body { content, link_preview } }))
    }

    fn supports(_: ChannelType, feature: Feature) -> bool {
        match feature {
            Feature::Kind | Feature::ReplyTo | Feature::Own | Feature::Schedule => true,
            // Not offered until the server can fetch the page.
            Feature::LinkPreview => false,
            Feature::SeveralContacts | Feature::Photo => false,
        }
    }

    fn fingerprint<'a>(&'a self, parts: &mut Parts<'a>) {
        parts.push_content(Self::NAME, [Some(self.text.content.as_str().into())]);
        parts.push_named("linkPreview", self.text.link_preview.then(|| "true".into()));
    }

    fn shown(&self) -> (&'static str, Value) {
        ("text", json!({"content": self.text.content, "linkPreview": self.text.link_preview}))
    }

    fn shown_schemas() -> Vec<(&'static str, Value)> {
        let schema = json!({
            "type": "object", "description": "A text.", "required": ["content", "linkPreview"],
            "properties": {"content": {"type": "string"}, "linkPreview": {"type": "boolean"}},
        });
        vec![("text", schema)]
    }

    fn plain_text(&self) -> Option<&str> {
        Some(&self.text.content)
    }

    fn needs() -> Value {
        json!({"required": ["to"], "oneOf": [{"required": ["content"]}, {"required": ["text"]}]})
    }

    fn examples() -> Vec<Value> {
        vec![
            json!({"to": "5511999998888", "content": "Ola, Maria! Seu pedido chegou."}),
            json!({"to": "5511999998888", "text": "Ola!", "linkPreview": false}),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::super::reader_tests::{assert_faults, parsed};

    #[test]
    fn a_text_is_read_under_either_name() {
        for (fields, content) in [
            (r#""content":" Ola,\n\tMaria 🎉 ""#, "Ola,\n\tMaria 🎉"),
            (r#""text":"a\r\nb","content":null"#, "a\nb"),
            (&format!(r#""text":"{}""#, "é".repeat(4_096)), &"é".repeat(4_096)),
        ] {
            let call = parsed("text", &format!(r#"{{"to":"5511999998888",{fields},"linkPreview":false}}"#));
            assert_eq!(call.content.plain_text(), Some(content));
        }
        let call = parsed("text", r#"{"to":"5511999998888","content":"x"}"#);
        assert_eq!(serde_json::to_string(&call.content).unwrap(), r#"{"type":"text","text":{"content":"x"}}"#);
    }

    #[test]
    fn every_fault_is_named() {
        let long = format!(r#","text":"{}""#, "é".repeat(4_097));
        for (fields, field, message) in [
            ("", "content", "O campo content e obrigatorio."),
            (r#","content":" \n ""#, "content", "O campo content e obrigatorio."),
            (r#","text":"""#, "text", "O campo text e obrigatorio."),
            (r#","content":"a","text":"a""#, "content", "Informe apenas um destes campos: content, text."),
            (r#","content":1"#, "content", "O campo content deve ser uma string."),
            (r#","content":"a","content":"a""#, "content", "Campo repetido."),
            (r#","content":"a\u0000b""#, "content", "O campo content contem caracteres invalidos."),
            (r#","content":"a\rb""#, "content", "O campo content contem caracteres invalidos."),
            (r#","content":"a\u202eb""#, "content", "O campo content contem caracteres invalidos."),
            (r#","content":"\u200b""#, "content", "O campo content contem caracteres invalidos."),
            (&long, "text", "O campo text deve ter no maximo 4096 caracteres."),
            (r#","content":"a","linkPreview":1"#, "linkPreview", "O campo linkPreview deve ser um booleano."),
            (r#","content":"a","name":"b""#, "name", "Campo desconhecido."),
        ] {
            assert_faults("text", &format!(r#"{{"to":"5511999998888"{fields}}}"#), &[(field, message)]);
        }
    }
}
