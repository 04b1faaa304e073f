//! `POST /oauth/token`: exchanges a code or a refresh token for new tokens (RFC 6749 §4.1.3, §5, §6).

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::response::Response;
use guestpass_core::client::{Client, OnEnded};
use guestpass_core::params::Params;
use guestpass_core::refusal::{Refusal, WireCode};
use guestpass_core::token_request::{
    EXAMPLE_REFRESH_TOKEN, PARAMETERS, REFRESH_TOKEN, TokenRequest,
};
use serde_json::{Value, json};

use super::body::{self, Source};
use super::client_auth::Presented;
use super::endpoint::{
    Answer, Caller, Endpoint, Link, Operation, ParameterLocation, Schema, access_token,
};
use super::visitor::Visitor;
use super::{fetch_metadata, respond};
use crate::app::App;
use crate::error::Error;
use crate::grants::Tokens;
use crate::listen::Deadline;

pub(super) static ENDPOINT: Endpoint = Endpoint {
    path: "/oauth/token",
    allow: "POST, OPTIONS",
    parameters: PARAMETERS,
    location: ParameterLocation::Body,
    caller: Caller::Client(WireCode::InvalidClient),
    early_check: None,
    operations: &[Operation {
        methods: &["POST"],
        query: None,
        id: "token",
        summary: "Exchange a code or a refresh token for new tokens",
        about: "Replace the stored tokens by those of the answer, both at once. After a 503, or if no answer arrives, keep \
                the stored ones and retry: a refresh that is repeated gets its answer again. After a 400 with \
                `invalid_grant`, read the stored ones again: if another tab or process has replaced them meanwhile, go on \
                with those; else authorize anew.\n\nDeprecated: existing clients send the parameters in the query, with an \
                empty body. That works for clients that are set to `query_params`, but never together with a body. A \
                guest's `x-dressipi-jwt` may be sent along and has no effect, even if it has expired.",
        answers: &[Answer {
            links: LINKS,
            ..Answer::json(
                "A new access token and a new refresh token.",
                Schema {
                    name: "Tokens",
                    of: schema,
                },
            )
        }],
    }],
};

const LINKS: &[Link] = &[
    Link {
        name: "refresh",
        to: "token",
        about: "Exchanges the refresh token for the next tokens.",
        body: &[
            ("grant_type", REFRESH_TOKEN),
            ("client_id", "$request.body#/client_id"),
            ("refresh_token", "$response.body#/refresh_token"),
        ],
    },
    Link {
        name: "handOver",
        to: "ticket",
        about: "Hands the guest over to another client.",
        body: &[
            ("client_id", "$request.body#/client_id"),
            ("refresh_token", "$response.body#/refresh_token"),
        ],
    },
    Link {
        name: "link",
        to: "link",
        about: "Says which customer the guest is, once the shop has authenticated the customer.",
        body: &[
            ("client_id", "$request.body#/client_id"),
            ("token", "$response.body#/access_token"),
            ("customer", "c-4711"),
        ],
    },
    Link {
        name: "attributes",
        to: "attributes",
        about: "Has Guestpass remember something of the guest.",
        body: &[
            ("client_id", "$request.body#/client_id"),
            ("token", "$response.body#/access_token"),
            ("attributes", r#"{"segment":"vip"}"#),
        ],
    },
    Link {
        name: "unlink",
        to: "unlink",
        about: "Takes that back.",
        body: &[
            ("client_id", "$request.body#/client_id"),
            ("token", "$response.body#/access_token"),
            ("customer", "c-4711"),
        ],
    },
    Link {
        name: "profile",
        to: "profile",
        about: "Reads the guest's profile, with `access_token` as bearer token.",
        body: &[],
    },
    Link {
        name: "erase",
        to: "erase",
        about: "Erases the guest, with `access_token` as bearer token.",
        body: &[],
    },
    Link {
        name: "verify",
        to: "verify",
        about: "Authenticates a request that carries this `access_token`, for a gateway.",
        body: &[],
    },
    Link {
        name: "introspect",
        to: "introspect",
        about: "Introspects the refresh token.",
        body: &[
            ("token", "$response.body#/refresh_token"),
            ("client_id", "$request.body#/client_id"),
        ],
    },
    Link {
        name: "revoke",
        to: "revoke",
        about: "Revokes the refresh token, which ends the grant.",
        body: &[
            ("token", "$response.body#/refresh_token"),
            ("client_id", "$request.body#/client_id"),
        ],
    },
];

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "access_token": access_token(),
            "refresh_token": {
                "type": "string",
                "pattern": "^[A-Za-z0-9_-]{22,512}$",
                "description": "The token for the next refresh. It is opaque.",
            },
            "expires_in": {
                "type": "integer",
                "minimum": 0,
                "description": "Lifetime of the access token in seconds: its `exp - iat`. It ends no later than its grant.",
            },
            "token_type": {"const": "Bearer"},
        },
        "required": ["access_token", "refresh_token", "expires_in", "token_type"],
        "additionalProperties": false,
        "examples": [{
            "access_token": EXAMPLE_ACCESS_TOKEN,
            "refresh_token": EXAMPLE_REFRESH_TOKEN,
            "expires_in": 86400,
            "token_type": "Bearer",
        }],
    })
}

/// The example of the API's documentation. Real tokens have more claims.
const EXAMPLE_ACCESS_TOKEN: &str = "eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjE1NzE5OTQ2NzIsImlhdCI6MTU3MTkwODI3Miwic3ViIjoiOTQxNzMifQ\
                                    .mb3ur-cCDbApKU1j24SkjgR7AjLNGQ2pHkJdpfKtY28";

pub(super) async fn post(State(app): State<Arc<App>>, request: Request) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    fetch_metadata::check(&parts.headers)?;
    let deadline = parts.extensions.get::<Deadline>().copied();
    let body = body::read(&parts.headers, body, deadline).await?;
    let query = parts.uri.query().unwrap_or_default();
    let (source, params) = body::params(ENDPOINT.parameters, &parts.headers, query, &body)?;
    let presented = Presented::read(&parts.headers, &params)?;
    let client = presented.client(&app);
    let answer = redeem(&app, &presented, client.as_deref(), &parts, source, &params).await;
    Ok(respond::to(client, answer))
}

async fn redeem(
    app: &App,
    presented: &Presented,
    client: Option<&Client>,
    parts: &Parts,
    source: Source,
    params: &Params<'_>,
) -> Result<Response, Error> {
    app.grants.check_room()?;
    let client = presented.authenticate(app, client)?;
    if source == Source::Query && !app.clients.policy_of(client).query_params {
        return Err(Refusal::QueryParamsDisallowed.into());
    }
    let request = TokenRequest::parse(params)?;
    let source = || Visitor::of_request(app, parts).source(Some(client));
    let source = match request {
        TokenRequest::AuthorizationCode { .. } => {
            let source = source()?;
            // A wrong verifier is written down.
            app.check_guesses(client, source)?;
            source
        }
        TokenRequest::RefreshToken { .. } if client.on_ended == OnEnded::NewGuest => source()?,
        TokenRequest::RefreshToken { .. } => None,
    };
    let tokens = app.redeem(client, &request, source).await?;
    Ok(respond::json(to_json(&tokens)))
}

/// Renders the tokens as JSON. No character of them needs escaping, so this is a concatenation.
fn to_json(tokens: &Tokens) -> String {
    let Tokens {
        access_token,
        refresh_token,
        expires_in,
        ..
    } = tokens;
    [
        r#"{"access_token":""#,
        access_token,
        r#"","refresh_token":""#,
        refresh_token,
        r#"","expires_in":"#,
        &expires_in.to_string(),
        r#","token_type":"Bearer"}"#,
    ]
    .concat()
}
