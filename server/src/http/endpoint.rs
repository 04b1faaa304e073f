//! The description of an endpoint that the router, the parser of parameters, error answers and OpenAPI share.

use std::sync::Arc;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::routing::{MethodFilter, MethodRouter};
use guestpass_core::client::Client;
use guestpass_core::params::Parameter;
use guestpass_core::refusal::{Refusal, WireCode};
use serde_json::{Value, json};

use super::visitor::Visitor;
use super::{envelope, respond};
use crate::app::App;
use crate::error::Error;

/// Describes an endpoint.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// The path under each base path; for an endpoint at the root, the whole path, but for that of an issuer.
    pub(super) path: &'static str,
    /// The value of the `Allow` header.
    pub(super) allow: &'static str,
    /// The table of its parameters.
    pub(super) parameters: &'static [Parameter],
    /// The place of its parameters.
    pub(super) location: ParameterLocation,
    /// The kind of caller, on which the status and code of a failure depend.
    pub(super) caller: Caller,
    /// Refuses, in front of the handler, what most of a flood would be refused for.
    pub(super) early_check: Option<EarlyCheck>,
    /// Its operations but `OPTIONS`, which is the same everywhere but for gateways.
    pub(super) operations: &'static [Operation],
}

/// A check that reads no more of a request than it needs, and writes nothing.
pub(super) type EarlyCheck = fn(&App, &Request, Visitor) -> Result<(), EarlyRefusal>;

/// A refusal in front of the handler, which is the cheapest.
pub(super) struct EarlyRefusal {
    pub(super) refusal: Refusal,
    /// The client that the request names, if it was looked for.
    pub(super) client: Option<Arc<Client>>,
}

impl From<Refusal> for EarlyRefusal {
    fn from(refusal: Refusal) -> Self {
        Self {
            refusal,
            client: None,
        }
    }
}

/// Tells from where an endpoint reads its parameters.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ParameterLocation {
    Query,
    /// A form or a JSON object. Endpoints with another location leave the body unread.
    Body,
}

/// Tells who calls an endpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Caller {
    /// Anyone.
    Anyone,
    /// A client, whose failed authentication has this code: RFC 6749 §4.1.2.1 and §5.2 differ.
    Client(WireCode),
    /// A client with a key. Without one the answer is 401 (RFC 7662 §2.1).
    ConfidentialClient,
    /// A client with a key, on behalf of a guest whose access token is a parameter. Both are refused with 400, a bad token as
    /// `invalid_grant`, and no page may read the answer.
    BackEnd,
    /// A page of a public client with cookies, which proves itself by its origin. Whatever it is refused for is a 400.
    Page,
    /// Whoever holds a guest's access token (RFC 6750).
    Guest,
    /// An operator, or what reads the metrics for one. No page may read what it gets.
    Operator,
    /// A gateway that asks on behalf of a request. It takes any refusal but a 401 for a failure of the check.
    Gateway,
}

impl Endpoint {
    /// Adds `OPTIONS`, a 405 for other methods and the middleware to the handlers of the endpoint. One for gateways answers
    /// every method itself: whatever they ask, they take the answer for a verdict.
    pub(super) fn route(
        &'static self,
        app: &Arc<App>,
        handlers: MethodRouter<Arc<App>>,
    ) -> MethodRouter<Arc<App>> {
        if self.caller == Caller::Gateway {
            return handlers.layer(envelope::layer(app, Some(self)));
        }
        let not_allowed = async || Error::from(Refusal::MethodNotAllowed);
        let has_head = self.allow.contains("HEAD");
        let handlers = if has_head {
            handlers
        } else {
            // Without this, axum would answer HEAD by running the GET, which creates a guest.
            handlers.on(MethodFilter::HEAD, not_allowed)
        };
        handlers
            .on(MethodFilter::OPTIONS, respond::options)
            .fallback(not_allowed)
            .layer(envelope::layer(app, Some(self)))
    }
}

/// Describes what an endpoint does for one or several methods.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) methods: &'static [&'static str],
    /// Its own parameters, in the query, in place of those of the endpoint.
    pub(super) query: Option<&'static [Parameter]>,
    /// The `operationId`, from which generated code takes its names. Every method but the first is appended to it.
    pub(super) id: &'static str,
    pub(super) summary: &'static str,
    pub(super) about: &'static str,
    /// The answers that are not errors.
    pub(super) answers: &'static [Answer],
}

/// Describes an answer that is not an error.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) about: &'static str,
    pub(super) body: Option<Schema>,
    pub(super) media_type: &'static str,
    /// True for a document that caches may keep.
    pub(super) is_cacheable: bool,
    /// The names of its headers beside those of every answer.
    pub(super) headers: &'static [&'static str],
    /// The requests that can follow.
    pub(super) links: &'static [Link],
}

/// Names a body and builds its JSON Schema.
#[derive(Debug)]
pub(super) struct Schema {
    pub(super) name: &'static str,
    pub(super) of: fn() -> Value,
}

/// Describes a request that can follow from an answer (OpenAPI link).
#[derive(Debug)]
pub(super) struct Link {
    pub(super) name: &'static str,
    /// The `id` of its operation.
    pub(super) to: &'static str,
    pub(super) about: &'static str,
    /// Names and values of its parameters; a value may be a runtime expression over the answer and its request.
    pub(super) body: &'static [(&'static str, &'static str)],
}

impl Answer {
    /// Describes a 304.
    pub(super) const NOT_MODIFIED: Self = Self {
        is_cacheable: true,
        ..Self::empty(
            StatusCode::NOT_MODIFIED,
            "The document is still the version that `if-none-match` names.",
        )
    };

    pub(super) const fn empty(status: StatusCode, about: &'static str) -> Self {
        Self {
            status,
            about,
            body: None,
            media_type: "application/json",
            is_cacheable: false,
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
            is_cacheable: true,
            ..Self::json(about, schema)
        }
    }
}

/// Returns the URL under which published documents place the endpoints: under the issuer, if its path is a base path,
/// else under the first base path.
pub(super) fn base_url(app: &App) -> String {
    let own = app.issuer.path();
    let base = app
        .base_paths
        .iter()
        .find(|base| *base == own)
        .or_else(|| app.base_paths.first());
    format!("{}{}", app.issuer.origin(), base.map_or("", String::as_str))
}

/// Builds the schema of an access token.
pub(super) fn access_token() -> Value {
    json!({
        "type": "string",
        "pattern": r"^[A-Za-z0-9_-]+\.[A-Za-z0-9]+\.[A-Za-z0-9_-]+$",
        "description": "A JWT (RFC 9068). Its payload contains neither `-` nor `_`, so that any base64 decoder reads it.",
        "contentMediaType": "application/jwt",
        "contentSchema": {
            "type": "array",
            "minItems": 2,
            "prefixItems": [
                {
                    "type": "object",
                    "properties": {"typ": {"const": "at+jwt"}},
                    "required": ["typ", "alg", "kid"],
                },
                {"$ref": "#/components/schemas/AccessTokenClaims"},
            ],
        },
    })
}

/// Builds the schema of a guest's id.
pub(super) fn sub() -> Value {
    json!({
        "type": "string",
        "pattern": "^[1-9][0-9]{0,18}$",
        "description": "The guest's id, a decimal number.",
        "examples": ["94173"],
    })
}

/// Builds the schema of a guest's network id.
pub(super) fn subn() -> Value {
    json!({
        "type": "string",
        "format": "uuid",
        "description": "The guest's network id. It never changes.",
    })
}

/// Builds the schema of a point in time, described by `about` and the unit.
pub(super) fn seconds(about: &str) -> Value {
    json!({
        "type": "integer",
        "format": "int64",
        "description": format!("{about}, in seconds since the epoch."),
    })
}

/// Builds the schema of a grant's id.
pub(super) fn sid() -> Value {
    json!({
        "type": "string",
        "pattern": "^[A-Za-z0-9_-]{22}$",
        "description": "The grant's id.",
    })
}
