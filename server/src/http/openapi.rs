//! `GET /oauth/openapi.json`: every endpoint, for people and programs (OpenAPI 3.1).
//!
//! Put together from what the endpoints say of themselves: their tables of parameters, which their parsers read too, and
//! their operations. Which errors an operation can answer follows from who calls and what is read; their statuses are
//! asked of `respond`.

use std::time::Duration;

use axum::http::StatusCode;
use guestpass_core::refusal::Refusal;
use serde_json::{Map, Value, json};

use super::document::Document;
use super::{Caller, Endpoint, ToldIn, metadata, respond};
use crate::app::App;
use crate::error::Error;
use crate::store::Unavailable;

mod components;
mod request;

pub(super) use components::{access_token, sid, sub};

pub(super) static ENDPOINT: Endpoint = Endpoint {
    path: "/oauth/openapi.json",
    allow: "GET, OPTIONS",
    parameters: &[],
    told_in: ToldIn::Query,
    caller: Caller::Anyone,
    operations: &[Operation {
        methods: &["GET"],
        id: "openapi",
        summary: "This document",
        about: "It changes with the version of the server and its configuration.",
        answers: &[
            Answer::document(
                "The document (OpenAPI 3.1).",
                Schema {
                    name: "OpenApi",
                    of: schema,
                },
            ),
            Answer::NOT_MODIFIED,
        ],
    }],
};

/// What an endpoint does when it is asked with one of some methods.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) methods: &'static [&'static str],
    /// What code that is generated from the document calls it. Every method but the first stands behind it.
    pub(super) id: &'static str,
    pub(super) summary: &'static str,
    pub(super) about: &'static str,
    /// Those that are no errors.
    pub(super) answers: &'static [Answer],
}

/// An answer that is no error.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) about: &'static str,
    pub(super) body: Option<Schema>,
    /// Whether it may be kept for a while.
    pub(super) is_kept: bool,
    /// Beside those that every answer has.
    pub(super) headers: &'static [&'static str],
    /// What can be asked next.
    pub(super) links: &'static [Link],
}

/// What a body must be (JSON Schema).
#[derive(Debug)]
pub(super) struct Schema {
    pub(super) name: &'static str,
    pub(super) of: fn() -> Value,
}

/// A request that follows from an answer.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) name: &'static str,
    /// The id of its operation.
    pub(super) to: &'static str,
    pub(super) about: &'static str,
    /// Names and values, or where in the answer or its request the values stand.
    pub(super) body: &'static [(&'static str, &'static str)],
}

impl Answer {
    /// It is as it was when the caller last asked.
    pub(super) const NOT_MODIFIED: Self = Self {
        is_kept: true,
        ..Self::empty(
            StatusCode::NOT_MODIFIED,
            "It is as it was when the caller last asked.",
        )
    };

    pub(super) const fn empty(status: StatusCode, about: &'static str) -> Self {
        Self {
            status,
            about,
            body: None,
            is_kept: false,
            headers: &[],
            links: &[],
        }
    }

    pub(super) const fn json(about: &'static str, schema: Schema) -> Self {
        Self {
            body: Some(schema),
            ..Self::empty(StatusCode::OK, about)
        }
    }

    pub(super) const fn document(about: &'static str, schema: Schema) -> Self {
        Self {
            is_kept: true,
            ..Self::json(about, schema)
        }
    }
}

/// The document about the endpoints beside the base paths and those below them, with itself.
pub(super) fn document(
    app: &App,
    beside: &[&'static Endpoint],
    below: &[&'static Endpoint],
) -> Document {
    let below: Vec<_> = below.iter().copied().chain([&ENDPOINT]).collect();
    let mut paths = Map::new();
    for endpoint in &below {
        paths.insert(endpoint.path.to_owned(), operations(endpoint).into());
    }
    for endpoint in beside {
        let mut operations = operations(endpoint);
        operations.insert("servers".into(), json!([{"url": app.issuer.origin()}]));
        paths.insert(endpoint.path_beside(app), operations.into());
    }
    let mut schemas = components::schemas();
    for endpoint in beside.iter().chain(&below) {
        schemas.extend(request::schemas(endpoint));
        let answers = endpoint.operations.iter().flat_map(|it| it.answers);
        schemas.extend(
            answers
                .filter_map(|answer| answer.body.as_ref())
                .map(|schema| (schema.name.to_owned(), (schema.of)())),
        );
    }
    let document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Guestpass",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "OAuth 2.0 for guests",
            "description": components::ABOUT,
            "license": {"name": "Apache-2.0 OR MIT", "identifier": env!("CARGO_PKG_LICENSE")},
        },
        "servers": [{"url": metadata::base_url(app)}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": components::responses(),
            "headers": components::headers(),
            "securitySchemes": components::security_schemes(),
        },
    });
    Document::new(document.to_string(), MAX_AGE)
}

fn operations(endpoint: &Endpoint) -> Map<String, Value> {
    let mut item = Map::new();
    for operation in endpoint.operations {
        for method in operation.methods {
            let described = operation_of(endpoint, operation, method);
            item.insert(method.to_lowercase(), described);
        }
    }
    let first = endpoint.operations.first();
    item.insert("options".into(), json!({
        "operationId": format!("{}Options", first.map_or("", |operation| operation.id)),
        "summary": "Which methods there are",
        "description": "Also the answer to the preflight of a browser, for origins that a client has registered.",
        "security": [],
        "responses": responses(endpoint, "OPTIONS", &[]),
    }));
    item
}

fn operation_of(endpoint: &Endpoint, operation: &Operation, method: &str) -> Value {
    let mut id = operation.id.to_owned();
    if operation.methods.first() != Some(&method) {
        id.push_str(&capitalized(&method.to_lowercase()));
    }
    let mut described = json!({
        "operationId": id,
        "summary": operation.summary,
        "description": operation.about,
        "security": components::security(endpoint.caller),
        "responses": responses(endpoint, method, operation.answers),
    });
    let parameters = request::parameters(endpoint, operation);
    if !parameters.is_empty() {
        described["parameters"] = parameters.into();
    }
    if let Some(body) = request::body(endpoint) {
        described["requestBody"] = body;
    }
    described
}

fn responses(endpoint: &Endpoint, method: &str, answers: &[Answer]) -> Value {
    let mut responses = Map::new();
    for error in errors(endpoint, method) {
        for tries_basic in [false, true] {
            let status = respond::status(&error, endpoint.caller, tries_basic);
            let response = if method == "HEAD" {
                components::response(status, false)
            } else {
                let name = components::name(status);
                json!({"$ref": format!("#/components/responses/{name}")})
            };
            responses.insert(status.as_str().to_owned(), response);
        }
    }
    if method == "OPTIONS" {
        let allowed = json!({"$ref": "#/components/responses/Options"});
        responses.insert(StatusCode::NO_CONTENT.as_str().to_owned(), allowed);
    }
    for answer in answers {
        let response = response(answer, method);
        responses.insert(answer.status.as_str().to_owned(), response);
    }
    responses.into()
}

/// An error for each status that there can be: from `limits`, `body`, authentication, the tables and `envelope`.
fn errors(endpoint: &Endpoint, method: &str) -> Vec<Error> {
    let mut refusals = vec![
        Refusal::RequestMalformed,
        Refusal::TargetTooLong,
        Refusal::HeadersTooLong,
    ];
    if method != "OPTIONS" {
        if endpoint.told_in == ToldIn::Body {
            refusals.extend([
                Refusal::BodyTooSlow,
                Refusal::BodyTooLong,
                Refusal::MediaTypeUnsupported,
            ]);
        }
        if !endpoint.parameters.is_empty() {
            refusals.push(Refusal::EncodingMalformed);
        }
        match endpoint.caller {
            Caller::Anyone => {}
            Caller::Client(_) | Caller::ConfidentialClient => refusals.push(Refusal::ClientUnknown),
            Caller::Guest | Caller::Gateway => refusals.push(Refusal::AccessTokenMissing),
        }
    }
    let own = [
        Error::Unavailable(Unavailable(String::new())),
        Error::Internal(String::new()),
    ];
    refusals.into_iter().map(Error::from).chain(own).collect()
}

fn response(answer: &Answer, method: &str) -> Value {
    let mut response = json!({
        "description": answer.about,
        "headers": components::headers_of(answer.is_kept, answer.headers),
    });
    if let (Some(schema), true) = (&answer.body, method != "HEAD") {
        response["content"] = components::json_content(schema.name);
    }
    if !answer.links.is_empty() {
        let links = answer.links.iter();
        response["links"] = links
            .map(|link| (link.name.to_owned(), link_to(link)))
            .collect::<Map<_, _>>()
            .into();
    }
    response
}

fn link_to(link: &Link) -> Value {
    let mut described = json!({"operationId": link.to, "description": link.about});
    if !link.body.is_empty() {
        let members = link.body.iter();
        described["requestBody"] = members
            .map(|(name, value)| ((*name).to_owned(), Value::from(*value)))
            .collect::<Map<_, _>>()
            .into();
    }
    described
}

fn capitalized(word: &str) -> String {
    let (first, rest) = word.split_at_checked(1).unwrap_or_default();
    first.to_uppercase() + rest
}

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {"openapi": {"const": "3.1.0"}},
        "required": ["openapi", "info", "paths"],
    })
}

const MAX_AGE: Duration = Duration::from_secs(3600);
