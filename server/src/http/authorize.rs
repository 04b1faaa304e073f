//! `GET /oauth/authorize`: creates a guest and issues its code (RFC 6749 §4.1.1, without the redirect).

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::Method;
use axum::response::Response;
use guestpass_core::authorize::{AuthorizeRequest, EXAMPLE_STATE, PARAMETERS, REDIRECT_URI};
use guestpass_core::client::{CLIENT_SECRET, Client};
use guestpass_core::limits::MAX_CLIENT_ID_BYTES;
use guestpass_core::params::Params;
use guestpass_core::pkce::EXAMPLE_VERIFIER;
use guestpass_core::refusal::WireCode;
use guestpass_core::token_request::{AUTHORIZATION_CODE, EXAMPLE_CODE};
use guestpass_verify::bearer;
use serde::Serialize;
use serde_json::{Value, json};

use super::client_auth::Presented;
use super::endpoint::{
    Answer, Caller, EarlyRefusal, Endpoint, Link, Operation, ParameterLocation, Schema,
};
use super::visitor::Visitor;
use super::{fetch_metadata, respond};
use crate::app::App;
use crate::error::Error;

pub(super) static ENDPOINT: Endpoint = Endpoint {
    path: "/oauth/authorize",
    allow: "GET, OPTIONS",
    parameters: PARAMETERS,
    location: ParameterLocation::Query,
    caller: Caller::Client(WireCode::UnauthorizedClient),
    early_check: Some(check_limits),
    operations: &[Operation {
        methods: &["GET"],
        query: None,
        id: "authorize",
        summary: "Create a guest and issue a code",
        about: "Every call creates a guest: call it only if there is no refresh token. There is no login and no redirect; \
                the code is in the body of the answer. A prefetch by a browser (`Sec-Purpose: prefetch`) gets a 503 and \
                creates no guest. So does whatever else a browser marks as no fetch whose answer a page could read \
                (`Sec-Fetch-Mode`, `Sec-Fetch-Dest`, and `Origin` beside `Sec-Fetch-Site`): it gets a 400. So does an `Origin` that \
                the client has not registered, if it has registered any. Beyond a limit of new guests a public client's \
                request gets a 429, whatever else is wrong with it.\n\nA guest's access token may be sent along, in `x-dressipi-jwt` or as bearer token. It \
                has no effect, unless the client is confidential and set to `resume_with_jwt`: then a valid token that \
                was issued to this client yields a code for the same guest.",
        answers: &[Answer {
            links: &[Link {
                name: "exchange",
                to: "token",
                about: "Exchanges the code for the first tokens. The `code_verifier` is that of the example's `code_challenge`.",
                body: &[
                    ("grant_type", AUTHORIZATION_CODE),
                    ("client_id", "$request.query.client_id"),
                    ("redirect_uri", REDIRECT_URI),
                    ("code", "$response.body#/code"),
                    ("code_verifier", EXAMPLE_VERIFIER),
                ],
            }],
            ..Answer::json(
                "The code, to be exchanged once and promptly, and the `state` of the request.",
                Schema {
                    name: "Authorization",
                    of: schema,
                },
            )
        }],
    }],
};

#[derive(Serialize)]
struct Authorization<'a> {
    code: String,
    state: &'a str,
}

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "code": {
                "type": "string",
                "pattern": "^[A-Za-z0-9_-]{22,512}$",
                "description": "The authorization code. It is opaque.",
            },
            "state": {"type": "string", "description": "The `state` of the request, unchanged."},
        },
        "required": ["code", "state"],
        "additionalProperties": false,
        "examples": [{"code": EXAMPLE_CODE, "state": EXAMPLE_STATE}],
    })
}

/// Refuses a public client's request for a guest beyond a limit before its parameters are read. Counts nothing, so whatever it
/// lets pass is asked again. A confidential client's waits for its key: that says for whom the client asks, and the
/// request may be for a guest who is there already.
fn check_limits(app: &App, request: &Request, visitor: Visitor) -> Result<(), EarlyRefusal> {
    if request.method() != Method::GET {
        return Ok(());
    }
    let named = request
        .uri()
        .query()
        .and_then(|query| Params::peek(query, "client_id"))
        .filter(|id| id.len() <= MAX_CLIENT_ID_BYTES)
        .and_then(|id| app.clients.by_id(id));
    let Some(client) = named.filter(|client| !client.confidential && !client.disabled) else {
        return Ok(());
    };
    let source = visitor.source(Some(&client))?;
    app.look_for_guest(&client, source)
        .map_err(|refusal| EarlyRefusal {
            refusal,
            client: Some(client),
        })
}

pub(super) async fn get(State(app): State<Arc<App>>, request: Request) -> Result<Response, Error> {
    let (parts, _) = request.into_parts();
    let headers = &parts.headers;
    // GET is not safe here: answering one that nobody waits for would make guests.
    fetch_metadata::check(headers)?;
    let query = parts.uri.query().unwrap_or_default();
    let params = Params::from_form(ENDPOINT.parameters, query.as_bytes())?;
    Params::check_lacks(query, CLIENT_SECRET.name)?;
    let presented = Presented::read(headers, &params)?;
    let client = presented.client(&app);
    if let Err(refusal) = fetch_metadata::check_origin(headers, client.as_deref()) {
        return Ok(respond::to(client, Err(refusal.into())));
    }
    // A malformed token is ignored: nobody needs one here.
    let token = bearer::token_of(headers).unwrap_or_default();
    let visitor = Visitor::of_request(&app, &parts);
    let answer = authorize(&app, &presented, client.as_deref(), visitor, token, &params).await;
    Ok(respond::to(client, answer))
}

async fn authorize(
    app: &App,
    presented: &Presented,
    client: Option<&Client>,
    visitor: Visitor,
    token: Option<&str>,
    params: &Params<'_>,
) -> Result<Response, Error> {
    let client = presented.authenticate(app, client)?;
    let request = AuthorizeRequest::parse(params)?;
    let resumed = match app.resumable(client, token).await? {
        Some(grant) => app.resume(client, &grant, &request).await?,
        None => None,
    };
    let code = match resumed {
        Some(code) => code,
        None => {
            app.check_new_guest(client, visitor.source(Some(client))?)?;
            app.authorize(client, &request).await?
        }
    };
    let authorization = Authorization {
        code,
        state: request.state,
    };
    let text = serde_json::to_string(&authorization).expect("texts become JSON");
    Ok(respond::json(text))
}
