//! `/oauth/verify`: forward authentication. Decides for a gateway (nginx `auth_request`, Traefik `forwardAuth`, Envoy
//! `ext_authz` over HTTP) if a request may pass, and identifies its guest.
//!
//! The gateway repeats the request's headers here. The access token in them alone identifies the guest: other headers
//! about method, path, host or identity aren't even read.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::header::{ACCESS_CONTROL_REQUEST_METHOD, ORIGIN};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any};
use guestpass_core::params::{Accepts, Parameter, Params, Presence};
use guestpass_core::refusal::{Refusal, WireCode};
use serde_json::{Value, json};

use super::endpoint::{
    Answer, Caller, Endpoint, Operation, ParameterLocation, Schema, seconds, sub,
};
use super::link::customer;
use super::{guest_auth, respond};
use crate::access_tokens::VerifiedToken;
use crate::app::App;
use crate::error::Error;
use crate::request_context;

pub(super) static ENDPOINT: Endpoint = Endpoint {
    path: "/oauth/verify",
    allow: "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE",
    parameters: &[
        Parameter {
            name: "mode",
            max_bytes: 16,
            presence: Presence::Optional,
            accepts: Accepts::OneOf(&[STRICT, SOFT]),
            about: "`strict`, the default, refuses a request without a valid token. `soft` lets it through as nobody's: with \
                    a 200 and empty identity headers.",
        },
        Parameter {
            name: "audience",
            max_bytes: 1024,
            presence: Presence::Optional,
            accepts: Accepts::Text {
                example: "https://api.example",
            },
            about: "The service that the gateway asks for: a token counts only if this stands in its `aud`. Without it, every \
                    token of a guest does. An empty one is refused.",
        },
    ],
    location: ParameterLocation::Query,
    caller: Caller::Gateway,
    operations: &[Operation {
        methods: &[
            "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE",
        ],
        id: "verify",
        summary: "Authenticate a request for a gateway",
        about: "Forward authentication, for nginx `auth_request`, Traefik `forwardAuth` and Envoy `ext_authz`. Configure \
                the gateway to repeat the request's headers here, and to overwrite the identity headers of the request \
                with those of the answer. Every method does the same, but for the CORS preflight of a browser (`OPTIONS` \
                with the origin of a client and `Access-Control-Request-Method`), which is answered by a 204. A body \
                isn't read.",
        answers: &[Answer {
            headers: &[
                "x-guestpass-sub",
                "x-guestpass-subn",
                "x-guestpass-client",
                "x-guestpass-customer",
            ],
            ..Answer::json(
                "The request may pass; the identity headers name its guest, or nobody.",
                Schema {
                    name: "Identity",
                    of: schema,
                },
            )
        }],
    }],
};

const STRICT: &str = "strict";
const SOFT: &str = "soft";

fn schema() -> Value {
    json!({"oneOf": [
        {
            "title": "A request of a guest",
            "type": "object",
            "properties": {
                "sub": sub(),
                "subn": {"type": "string", "description": "The guest's network id; empty if the token has none."},
                "client_id": {"type": "string", "description": "The client that the token was issued to."},
                "customer": customer(),
                "exp": seconds("When the token expires"),
            },
            "required": ["sub", "subn", "client_id", "exp"],
            "additionalProperties": false,
        },
        {"title": "A request of nobody (`mode=soft`)", "type": "object", "additionalProperties": false},
    ]})
}

/// Routes all methods to one handler, because Envoy asks with the method of the request that it asks about.
pub(super) fn methods() -> MethodRouter<Arc<App>> {
    any(verify)
}

async fn verify(State(app): State<Arc<App>>, request: Request) -> Result<Response, Error> {
    if is_preflight(&app, &request) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let query = request.uri().query().unwrap_or_default();
    let params = Params::from_form(ENDPOINT.parameters, query.as_bytes())?;
    let soft = match params.get("mode") {
        None | Some(STRICT) => false,
        Some(SOFT) => true,
        Some(_) => return Err(Refusal::ModeUnsupported.into()),
    };
    let audience = params.given("audience");
    if audience.is_some_and(str::is_empty) {
        // A variable of the gateway's configuration that isn't set must not mean "everyone".
        return Err(Refusal::ParameterMissing("audience").into());
    }
    match verified(&app, request.headers(), audience).await {
        Ok(token) => Ok(respond::to(
            Some(Arc::clone(&token.client)),
            Ok(identity(&token)),
        )),
        Err(Error::Refused(refusal, _))
            if soft && refusal.wire_code() == WireCode::InvalidToken =>
        {
            request_context::decision(refusal.name());
            Ok(anonymous())
        }
        Err(error) => Err(error),
    }
}

/// Recognises a CORS preflight of a client's page, which carries no token (Fetch standard). Any other `OPTIONS` is asked
/// about as every request is, lest a gateway take its 204 for a yes.
fn is_preflight(app: &App, request: &Request) -> bool {
    let headers = request.headers();
    let is_known = |origin: &HeaderValue| {
        let origin = origin.to_str();
        origin.is_ok_and(|origin| app.clients.any_has_origin(origin))
    };
    request.method() == Method::OPTIONS
        && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
        && headers.get(ORIGIN).is_some_and(is_known)
}

async fn verified(
    app: &App,
    headers: &HeaderMap,
    audience: Option<&str>,
) -> Result<VerifiedToken, Error> {
    let token = app.verify(guest_auth::token(headers)?)?;
    if let Some(audience) = audience
        && !token.claims.audience.iter().any(|aud| aud == audience)
    {
        return Err(Refusal::AccessTokenLacksAudience.into());
    }
    app.check_recent(&token)
        .await
        .map_err(|error| error.about(token.grant))?;
    Ok(token)
}

const SUB: HeaderName = HeaderName::from_static("x-guestpass-sub");
const SUBN: HeaderName = HeaderName::from_static("x-guestpass-subn");
const CLIENT: HeaderName = HeaderName::from_static("x-guestpass-client");
const CUSTOMER: HeaderName = HeaderName::from_static("x-guestpass-customer");

fn identity(VerifiedToken { claims, .. }: &VerifiedToken) -> Response {
    let subn = claims.network_id.as_deref().unwrap_or_default();
    let mut identity = json!({
        "sub": claims.subject,
        "subn": subn,
        "client_id": claims.client_id,
        "exp": claims.expires_at,
    });
    if let Some(customer) = &claims.customer {
        identity["customer"] = customer.as_str().into();
    }
    let mut response = Json(identity).into_response();
    let headers = response.headers_mut();
    for (name, value) in [
        (SUB, &*claims.subject),
        (SUBN, subn),
        (CLIENT, &claims.client_id),
        // There even if the token doesn't say, so that a gateway overwrites what the request says.
        (CUSTOMER, claims.customer.as_deref().unwrap_or_default()),
    ] {
        // It never fails: the claims of a token that we signed are printable ASCII.
        headers.extend(HeaderValue::from_str(value).map(|value| (name, value)));
    }
    response
}

/// Answers with empty identity headers rather than none, so that a gateway overwrites those that the request forged.
fn anonymous() -> Response {
    let nobody = HeaderValue::from_static("");
    let headers = [SUB, SUBN, CLIENT, CUSTOMER].map(|name| (name, nobody.clone()));
    (headers, Json(json!({}))).into_response()
}
