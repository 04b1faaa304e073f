//! An endpoint as it describes itself: to the router, to the parser of parameters, to error answers and to OpenAPI.

use std::sync::Arc;

use axum::http::StatusCode;
use axum::routing::{MethodFilter, MethodRouter};
use guestpass_core::params::Parameter;
use guestpass_core::refusal::{Refusal, WireCode};
use serde_json::{Value, json};

use super::{envelope, metadata, respond};
use crate::app::App;
use crate::error::Error;

/// What is known of an endpoint before any request.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// Below the base paths, or all of it for what stands beside them.
    pub(super) path: &'static str,
    /// What the `Allow` header says.
    pub(super) allow: &'static str,
    /// What it is told.
    pub(super) parameters: &'static [Parameter],
    /// Where it is told.
    pub(super) location: ParameterLocation,
    /// Who calls, and so how a failure is told.
    pub(super) caller: Caller,
    /// What it does. The answer to `OPTIONS` is the same everywhere and not among them.
    pub(super) operations: &'static [Operation],
}

/// Where an endpoint reads its parameters.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ParameterLocation {
    Query,
    /// A form, or a JSON object. Other endpoints leave a body unread.
    Body,
}

/// Who calls an endpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Caller {
    /// Anyone.
    Anyone,
    /// A client, whose failed authentication has this code: RFC 6749 §4.1.2.1 and §5.2 differ.
    Client(WireCode),
    /// A client with a key. Without one the answer is 401 (RFC 7662 §2.1).
    ConfidentialClient,
    /// Whoever holds a guest's access token (RFC 6750).
    Guest,
    /// A gateway that asks on behalf of a request. It knows no other refusal than 401.
    Gateway,
}

impl Endpoint {
    /// The whole path of an endpoint that doesn't stand below the base paths. The issuer's own comes last in that of its
    /// metadata (RFC 8414 §3.1).
    pub(super) fn root_path(&self, app: &App) -> String {
        if self.path == metadata::ENDPOINT.path {
            format!("{}{}", self.path, app.issuer.path())
        } else {
            self.path.to_owned()
        }
    }

    pub(super) fn route(
        &'static self,
        app: &Arc<App>,
        handlers: MethodRouter<Arc<App>>,
    ) -> MethodRouter<Arc<App>> {
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
            "The document is still the version that `if-none-match` names.",
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

/// Where the endpoints are for those who read documents: below the issuer, if it is one of the base paths, else below the
/// first of them.
pub(super) fn base_url(app: &App) -> String {
    let own = app.issuer.path();
    let base = app
        .base_paths
        .iter()
        .find(|base| *base == own)
        .or_else(|| app.base_paths.first());
    format!("{}{}", app.issuer.origin(), base.map_or("", String::as_str))
}

/// An access token.
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

/// The guest's id.
pub(super) fn sub() -> Value {
    json!({
        "type": "string",
        "pattern": "^[1-9][0-9]{0,18}$",
        "description": "The guest's id, a decimal number.",
        "examples": ["94173"],
    })
}

/// The guest's network id.
pub(super) fn subn() -> Value {
    json!({
        "type": "string",
        "format": "uuid",
        "description": "The guest's network id. It never changes.",
    })
}

/// A point in time, described by `about` and the unit.
pub(super) fn seconds(about: &str) -> Value {
    json!({
        "type": "integer",
        "format": "int64",
        "description": format!("{about}, in seconds since the epoch."),
    })
}

/// The grant's id.
pub(super) fn sid() -> Value {
    json!({
        "type": "string",
        "pattern": "^[A-Za-z0-9_-]{22}$",
        "description": "The grant's id.",
    })
}
