//! Builds one operation of the document beside its handler.

use std::collections::BTreeMap;

use recado_domain::api_key::Scope;
use recado_domain::field_errors::UNKNOWN;
use schemars::JsonSchema;
use serde_json::{Map, Value, json};

use super::refusals::{Components, common_headers};
use super::schemas;
use crate::api::error::ApiError;
use crate::api::query::{COUNTED, DEFAULT_LIMIT, MAX_LIMIT};

/// The description of an operation beside its handler.
pub type Describe = Box<dyn for<'a> Fn(Operation<'a>) -> Operation<'a>>;

/// An operation that is being described.
#[must_use = "each call returns the operation"]
pub struct Operation<'a> {
    components: &'a mut Components,
    keyed: bool,
    fields: Map<String, Value>,
    parameters: Vec<Value>,
    answers: BTreeMap<u16, Value>,
    refusals: Vec<ApiError>,
}

impl<'a> Operation<'a> {
    /// An operation on this path. The ids in the path become parameters, and the common answers are added.
    pub fn new(path: &str, keyed: bool, components: &'a mut Components) -> Self {
        let ids = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        let parameters = ids.map(|name| {
            let (description, schema) = schemas::path_id(name);
            let mut parameter = json!({"name": name, "in": "path", "required": true, "description": description});
            if let Some(example) = schema["examples"].get(0) {
                // The page fills its form with this one alone.
                parameter["example"] = example.clone();
            }
            parameter["schema"] = schema;
            parameter
        });
        let refusals = if keyed {
            vec![ApiError::Unauthorized, ApiError::Forbidden, ApiError::RateLimited(1), ApiError::Internal]
        } else {
            Vec::new()
        };
        let (fields, answers) = (Map::new(), BTreeMap::new());
        Self { parameters: parameters.collect(), components, keyed, fields, answers, refusals }
    }

    /// The group, the id for generated clients, and the title.
    pub fn named(mut self, tag: &str, id: &str, summary: &str) -> Self {
        self.fields.insert("tags".to_owned(), json!([tag]));
        self.fields.insert("operationId".to_owned(), json!(id));
        self.fields.insert("summary".to_owned(), json!(summary));
        self
    }

    /// A description in one or more sentences.
    pub fn about(mut self, text: &str) -> Self {
        self.fields.insert("description".to_owned(), json!(text));
        self
    }

    /// The scope that the key needs.
    pub fn needs(mut self, scope: Scope) -> Self {
        let need = format!("Scope: `{}`.", scope.name());
        let text = match self.fields.get("description").and_then(Value::as_str) {
            Some(text) => format!("{text}\n\n{need}"),
            None => need,
        };
        self.fields.insert("security".to_owned(), json!([{"apiKey": [scope.name()]}]));
        self.about(&text)
    }

    /// A query parameter.
    pub fn query(self, name: &str, description: &str, schema: Value) -> Self {
        self.parameter("query", name, description, schema)
    }

    /// The parameters of every list. A wrong one is answered with 400.
    pub fn pages(self, cursor: Value) -> Self {
        let limit = json!({"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT});
        self.query("limit", "Most entries on a page.", limit)
            .query("cursor", "`nextCursor` of the page before.", cursor)
            .refuses([ApiError::field("limit", "O limite deve ser um numero de 1 a 100.")])
    }

    /// The parameters of a list that has numbered pages too.
    pub fn numbered_pages(self, cursor: Value) -> Self {
        let page = json!({"type": "integer", "minimum": 1, "maximum": COUNTED});
        self.pages(cursor).query(
            "page",
            "The number of a page, in place of `cursor`; `page` times `limit` is at most 10,000.",
            page,
        )
    }

    /// A request header.
    pub fn header(self, name: &str, description: &str, schema: Value) -> Self {
        self.parameter("header", name, description, schema)
    }

    fn parameter(mut self, place: &str, name: &str, description: &str, schema: Value) -> Self {
        let description = description.into();
        let fields = [("name", name.into()), ("in", place.into()), ("description", description), ("schema", schema)];
        self.parameters.push(object(fields));
        self
    }

    /// A JSON body.
    pub fn body(self, schema_name: &'static str, schema: Value, example: Value) -> Self {
        self.accepts(true, schema_name, schema, example)
    }

    /// A JSON body that may be omitted.
    pub fn optional_body(self, schema_name: &'static str, schema: Value, example: Value) -> Self {
        self.accepts(false, schema_name, schema, example)
    }

    /// No JSON body, or one without fields.
    pub fn no_body(self) -> Self {
        self.refuses([
            ApiError::field("body", UNKNOWN),
            ApiError::UnsupportedMediaType,
            ApiError::UnsupportedContentEncoding,
            ApiError::PayloadTooLarge,
        ])
    }

    fn accepts(mut self, required: bool, schema_name: &'static str, schema: Value, example: Value) -> Self {
        let definition = json!({"$ref": format!("#/components/schemas/{schema_name}")});
        self.components.schemas.definitions_mut().insert(schema_name.to_owned(), schema);
        let content = object([("application/json", object([("schema", definition), ("example", example)]))]);
        self.fields.insert("requestBody".to_owned(), object([("required", required.into()), ("content", content)]));
        self.refuses([ApiError::UnsupportedMediaType, ApiError::UnsupportedContentEncoding, ApiError::PayloadTooLarge])
    }

    /// An answer in JSON.
    pub fn answers<T: JsonSchema>(self, status: u16, description: &str, example: Value) -> Self {
        let schema = self.components.schemas.subschema_for::<T>().into();
        let content = object([("schema", schema), ("example", example)]);
        self.answers_with(status, description, object([("application/json", content)]))
    }

    /// An answer with other content.
    pub fn answers_with(mut self, status: u16, description: &str, content: Value) -> Self {
        let headers = common_headers(self.keyed);
        let answer = [("description", description.into()), ("headers", headers), ("content", content)];
        self.answers.insert(status, object(answer));
        self
    }

    /// A header of the answer with this status.
    pub fn answer_header(mut self, status: u16, name: &str, description: &str, schema: Value) -> Self {
        let header = object([("description", description.into()), ("schema", schema)]);
        self.part(status, "headers").insert(name.to_owned(), header);
        self
    }

    /// A header that the answer always has.
    pub fn required_header(mut self, status: u16, name: &str, description: &str, schema: Value) -> Self {
        let header = object([("description", description.into()), ("required", true.into()), ("schema", schema)]);
        self.part(status, "headers").insert(name.to_owned(), header);
        self
    }

    /// A link from the answer with this status to another operation.
    pub fn link(mut self, status: u16, name: &str, operation: &str, parameters: &Value) -> Self {
        self.part(status, "links").insert(name.to_owned(), json!({"operationId": operation, "parameters": parameters}));
        self
    }

    /// The part of an answer that was described before.
    fn part(&mut self, status: u16, name: &str) -> &mut Map<String, Value> {
        let answer = self.answers.get_mut(&status).expect("an answer is described before its parts");
        let part = answer.as_object_mut().expect("an answer is an object").entry(name).or_insert_with(|| json!({}));
        part.as_object_mut().expect("headers and links are objects")
    }

    /// The errors of the operation.
    pub fn refuses<const N: usize>(mut self, errors: [ApiError; N]) -> Self {
        self.refusals.extend(errors);
        self
    }

    /// The operation as the document shows it.
    pub fn finish(self) -> Value {
        let Self { mut fields, parameters, mut answers, mut refusals, components, keyed, .. } = self;
        // A call without parameters refuses them.
        if keyed && !refusals.iter().any(|error| matches!(error, ApiError::Validation(_))) {
            refusals.push(ApiError::field("x", UNKNOWN));
        }
        answers.extend(components.by_status(&refusals));
        if !parameters.is_empty() {
            fields.insert("parameters".to_owned(), parameters.into());
        }
        let answers = answers.into_iter().map(|(status, answer)| (status.to_string(), answer));
        fields.insert("responses".to_owned(), Value::Object(answers.collect()));
        Value::Object(fields)
    }
}

/// An object of these fields. (`json!` would copy them.)
fn object<const N: usize>(fields: [(&str, Value); N]) -> Value {
    Value::Object(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}
