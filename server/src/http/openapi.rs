//! `GET /oauth/openapi.json`: the description of the API (OpenAPI 3.1).
//!
//! It is rendered from each [`Endpoint`]: its table of parameters, which its parser reads too, and its operations. The
//! errors of an operation follow from its caller and its parameters, and [`respond`] tells their statuses.

use std::time::Duration;

use axum::http::StatusCode;
use guestpass_core::refusal::Refusal;
use serde_json::{Map, Value, json};

use super::document::Document;
use super::endpoint::{
    Answer, Caller, Endpoint, Link, Operation, ParameterLocation, Schema, base_url,
};
use super::respond;
use crate::app::App;
use crate::error::Error;
use crate::store::Unavailable;

mod components;
mod request;
mod webhooks;

pub(super) static ENDPOINT: Endpoint = Endpoint {
    path: "/oauth/openapi.json",
    allow: "GET, HEAD, OPTIONS",
    parameters: &[],
    location: ParameterLocation::Query,
    caller: Caller::Anyone,
    early_check: None,
    operations: &[Operation {
        methods: &["GET", "HEAD"],
        query: None,
        id: "openapi",
        summary: "This document",
        about: "The description of this API (OpenAPI 3.1). It changes with the server's version and configuration.",
        answers: &[
            Answer::document(
                "The OpenAPI document.",
                Schema {
                    name: "OpenApi",
                    of: schema,
                },
            ),
            Answer::NOT_MODIFIED,
        ],
    }],
};

/// Builds the document about the endpoints at the root, each with its path, and those under the base paths, its own among
/// them.
pub(super) fn document(
    app: &App,
    at_root: &[(String, &'static Endpoint)],
    under_base_paths: &[&'static Endpoint],
) -> Document {
    let under_base_paths: Vec<_> = under_base_paths
        .iter()
        .copied()
        .chain([&ENDPOINT])
        .collect();
    let mut paths = Map::new();
    for endpoint in &under_base_paths {
        paths.insert(endpoint.path.to_owned(), operations(endpoint, "").into());
    }
    for (index, (path, endpoint)) in at_root.iter().enumerate() {
        let mut earlier = at_root[..index].iter();
        let is_second = earlier.any(|(_, known)| std::ptr::eq(*known, *endpoint));
        let mut operations = operations(endpoint, if is_second { "Appended" } else { "" });
        operations.insert("servers".into(), json!([{"url": app.issuer.origin()}]));
        paths.insert(path.clone(), operations.into());
    }
    let mut schemas = components::schemas();
    schemas.extend(webhooks::schemas());
    let at_root = at_root.iter().map(|(_, endpoint)| endpoint);
    for endpoint in at_root.chain(&under_base_paths) {
        schemas.extend(request::schemas(endpoint));
        schemas.extend(
            endpoint
                .operations
                .iter()
                .flat_map(|operation| operation.answers)
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
        "servers": [{"url": base_url(app)}],
        "paths": paths,
        "webhooks": webhooks::webhooks(),
        "components": {
            "schemas": schemas,
            "responses": components::responses(),
            "headers": components::headers(),
            "securitySchemes": components::security_schemes(),
        },
    });
    Document::new(document.to_string(), MAX_AGE)
}

/// Describes the operations of an endpoint. What is `appended` to their names tells its second path from its first.
fn operations(endpoint: &Endpoint, appended: &str) -> Map<String, Value> {
    let mut item = Map::new();
    for operation in endpoint.operations {
        for method in operation.methods {
            let described = operation_of(endpoint, operation, method, appended);
            item.insert(method.to_lowercase(), described);
        }
    }
    let first = endpoint.operations.first();
    if endpoint.caller == Caller::Gateway {
        // One of its operations.
        return item;
    }
    item.insert("options".into(), json!({
        "operationId": format!("{}{appended}Options", first.map_or("", |operation| operation.id)),
        "summary": "List the allowed methods",
        "description": "Also answers the CORS preflight of a browser, which allows the origins that clients have registered.",
        "security": [],
        "responses": responses(endpoint, "OPTIONS", false, &[]),
    }));
    item
}

fn operation_of(endpoint: &Endpoint, operation: &Operation, method: &str, appended: &str) -> Value {
    let mut id = format!("{}{appended}", operation.id);
    if operation.methods.first() != Some(&method) {
        id.push_str(&capitalized(&method.to_lowercase()));
    }
    let reads_body = endpoint.location == ParameterLocation::Body && operation.query.is_none();
    let mut described = json!({
        "operationId": id,
        "summary": operation.summary,
        "description": operation.about,
        "security": components::security(endpoint.caller),
        "responses": responses(endpoint, method, reads_body, operation.answers),
    });
    let parameters = request::parameters(endpoint, operation);
    if !parameters.is_empty() {
        described["parameters"] = parameters.into();
    }
    if let Some(body) = request::body(endpoint, operation) {
        described["requestBody"] = body;
    }
    described
}

fn responses(endpoint: &Endpoint, method: &str, reads_body: bool, answers: &[Answer]) -> Value {
    let mut responses = Map::new();
    for error in errors(endpoint, method, reads_body) {
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

/// Lists an error for each status that the middleware, the parsers and the authentication of an endpoint can answer.
fn errors(endpoint: &Endpoint, method: &str, reads_body: bool) -> Vec<Error> {
    let mut refusals = vec![
        Refusal::RequestMalformed,
        Refusal::TargetTooLong,
        Refusal::HeadersTooLong,
    ];
    if method != "OPTIONS" || endpoint.caller == Caller::Gateway {
        if reads_body {
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
            Caller::Anyone | Caller::Operator => {}
            Caller::Client(_) | Caller::ConfidentialClient | Caller::Page => {
                refusals.push(Refusal::ClientUnknown);
            }
            Caller::BackEnd => refusals.extend([Refusal::ClientUnknown, Refusal::LinkedToAnother]),
            Caller::Guest | Caller::Gateway => refusals.push(Refusal::AccessTokenMissing),
        }
        if !matches!(endpoint.caller, Caller::Anyone | Caller::Gateway) {
            refusals.extend(
                Refusal::all()
                    .iter()
                    .filter(|refusal| matches!(refusal, Refusal::RateLimited(_))),
            );
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
        "headers": components::headers_of(answer.is_cacheable, answer.headers),
    });
    if let (Some(schema), true) = (&answer.body, method != "HEAD") {
        response["content"] = components::content(answer.media_type, schema.name);
    }
    if !answer.links.is_empty() {
        response["links"] = answer
            .links
            .iter()
            .map(|link| (link.name.to_owned(), link_to(link)))
            .collect::<Map<_, _>>()
            .into();
    }
    response
}

fn link_to(link: &Link) -> Value {
    let mut described = json!({"operationId": link.to, "description": link.about});
    if !link.body.is_empty() {
        described["requestBody"] = link
            .body
            .iter()
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
