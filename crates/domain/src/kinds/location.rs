//! The kind `location`.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Feature, FieldSpec, Form, MessageKind, Parts, Reader, Rule};
use crate::channel::ChannelType;
use crate::field_errors::FieldErrors;
use crate::schema;

const NAME: Rule = Rule::line(200);
const ADDRESS: Rule = Rule::line(300);

/// A location as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Location {
    /// The place.
    pub location: Place,
}

/// A location.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// Degrees north, from -90 to 90.
    pub latitude: f64,
    /// Degrees east, from -180 to 180.
    pub longitude: f64,
    /// The name of the location.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

impl MessageKind for Location {
    const NAME: &'static str = "location";
    const TITLE: (&'static str, &'static str) = ("Send a location", "sendLocation");
    const BODY: &'static str = "LocationCall";
    const ABOUT: &'static str = "A location on the map, and its recipient.";
    const FIELDS: &'static [FieldSpec] = &[
        FieldSpec::text(
            "latitude",
            "DEGREES",
            "Degrees north, -90 to 90",
            || json!({"type": "number", "minimum": -90, "maximum": 90}),
        )
        .of(Form::Number)
        .required(),
        FieldSpec::text(
            "longitude",
            "DEGREES",
            "Degrees east, -180 to 180",
            || json!({"type": "number", "minimum": -180, "maximum": 180}),
        )
        .of(Form::Number)
        .required(),
        FieldSpec::text("name", "NAME", "What the place is called", || schema::name(200, false)),
        FieldSpec::text("address", "ADDRESS", "The address of the place", || schema::name(300, false)),
    ];

    fn parse(reader: &mut Reader<'_, '_>) -> Result<Option<Self>, FieldErrors> {
        let latitude = reader.number("latitude", -90..=90);
        let longitude = reader.number("longitude", -180..=180);
        let name = reader.optional("name", &NAME)?;
        let address = reader.optional("address", &ADDRESS)?;
        let (Some(latitude), Some(longitude), Some(name), Some(address)) = (latitude, longitude, name, address) else {
            return Ok(None);
        };
        Ok(Some(Self { location: Place { latitude, longitude, name, address } }))
    }

    fn supports(_: ChannelType, feature: Feature) -> bool {
        match feature {
            Feature::Kind | Feature::ReplyTo | Feature::Own | Feature::Schedule => true,
            Feature::LinkPreview | Feature::SeveralContacts | Feature::Photo => false,
        }
    }

    fn fingerprint<'a>(&'a self, parts: &mut Parts<'a>) {
        let Place { latitude, longitude, name, address } = &self.location;
        let degrees = [latitude, longitude].map(|degrees| Some(degrees.to_string().into()));
        parts.push_content(Self::NAME, degrees);
        parts.push([name, address].map(|text| text.as_deref().map(Into::into)));
    }

    fn shown(&self) -> (&'static str, Value) {
        ("location", json!(self.location))
    }

    fn shown_schemas() -> Vec<(&'static str, Value)> {
        let text = || json!({"type": "string", "description": "There when it was given."});
        let schema = json!({
            "type": "object", "description": "A place on the map.", "required": ["latitude", "longitude"],
            "properties": {"latitude": {"type": "number"}, "longitude": {"type": "number"}, "name": text(), "address": text()},
        });
        vec![("location", schema)]
    }

    fn examples() -> Vec<Value> {
        let (to, name) = ("5511999998888", "Mercado Municipal");
        let address = "Rua da Cantareira, 306, Sao Paulo";
        vec![
            json!({"to": to, "latitude": -23.541_81, "longitude": -46.629_28, "name": name, "address": address}),
            json!({"to": to, "latitude": 0, "longitude": 180}),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::super::reader_tests::{assert_faults, parsed};
    use super::*;

    #[test]
    fn a_place_is_read() {
        let call = parsed(
            "location",
            r#"{"to":"5511999998888","latitude":-90,"longitude":1.8e2,"name":" Casa ","address":null}"#,
        );
        let location = Place { latitude: -90.0, longitude: 180.0, name: Some("Casa".to_owned()), address: None };
        assert_eq!(call.content, Location { location }.into());
        assert_eq!(
            serde_json::to_string(&call.content).unwrap(),
            r#"{"type":"location","location":{"latitude":-90.0,"longitude":180.0,"name":"Casa"}}"#
        );
    }

    #[test]
    fn every_fault_is_named() {
        let name = |sign: &str, count: usize| format!("\"{}\"", sign.repeat(count));
        for (fields, faults) in [
            (
                "",
                &[("latitude", "O campo latitude e obrigatorio."), ("longitude", "O campo longitude e obrigatorio.")][..],
            ),
            (
                r#","latitude":90.000001,"longitude":-180.5"#,
                &[
                    ("latitude", "O campo latitude deve estar entre -90 e 90."),
                    ("longitude", "O campo longitude deve estar entre -180 e 180."),
                ],
            ),
            (
                r#","latitude":"1","longitude":true"#,
                &[
                    ("latitude", "O campo latitude deve ser um numero."),
                    ("longitude", "O campo longitude deve ser um numero."),
                ],
            ),
            (
                r#","latitude":1e999,"longitude":1,"longitude":1"#,
                &[("latitude", "O campo latitude deve ser um numero."), ("longitude", "Campo repetido.")],
            ),
            (
                &format!(r#","latitude":1,"longitude":1,"address":{},"name":{}"#, name("a", 301), name("é", 201)),
                &[
                    ("name", "O campo name deve ter no maximo 200 caracteres."),
                    ("address", "O campo address deve ter no maximo 300 caracteres."),
                ],
            ),
            (
                r#","latitude":1,"longitude":1,"name":"a\nb","phone":1,"x":2"#,
                &[
                    ("name", "O campo name contem caracteres invalidos."),
                    ("phone", "Campo desconhecido."),
                    ("x", "Campo desconhecido."),
                ],
            ),
        ] {
            assert_faults("location", &format!(r#"{{"to":"5511999998888"{fields}}}"#), faults);
        }
    }
}
