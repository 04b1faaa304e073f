//! `POST /oauth/ticket`: hands the guest over to another client.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use guestpass_core::client::Client;
use guestpass_core::cookies::Cookie;
use guestpass_core::params::Params;
use guestpass_core::refusal::{Refusal, WireCode};
use guestpass_core::ticket::{EXAMPLE_TICKET, PARAMETERS, Ticket};
use serde::Serialize;
use serde_json::{Value, json};

use super::client_auth::Presented;
use super::endpoint::{Answer, Caller, Endpoint, Operation, ParameterLocation, Schema};
use super::visitor::Visitor;
use super::{body, cookies, fetch_metadata, respond};
use crate::app::App;
use crate::error::Error;
use crate::listen::Deadline;

pub(super) static ENDPOINT: Endpoint = Endpoint {
    path: "/oauth/ticket",
    allow: "POST, OPTIONS",
    parameters: PARAMETERS,
    location: ParameterLocation::Body,
    caller: Caller::Client(WireCode::InvalidClient),
    early_check: None,
    operations: &[Operation {
        methods: &["POST"],
        query: None,
        id: "ticket",
        summary: "Hand the guest over to another client",
        about: "For a client that may (`guestpass client set ID --ticket-to TARGET`): an app for its web view, a page for the shop's \
                back end. The target redeems the ticket once, within its `expires_in`: for cookies, as `ticket` at `/oauth/session`; \
                or at `/oauth/token`, with what stands before the dot as `code` and what stands behind it as `code_verifier`. \
                Never put a ticket into an address.",
        answers: &[Answer::json(
            "The ticket.",
            Schema {
                name: "Ticket",
                of: schema,
            },
        )],
    }],
};

#[derive(Serialize)]
struct Shown<'a> {
    ticket: &'a str,
    expires_in: u64,
}

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "ticket": {"type": "string", "pattern": Ticket::PATTERN, "examples": [EXAMPLE_TICKET]},
            "expires_in": {
                "type": "integer",
                "minimum": 1,
                "description": "The seconds for which it can be redeemed.",
            },
        },
        "required": ["ticket", "expires_in"],
        "additionalProperties": false,
    })
}

pub(super) async fn post(State(app): State<Arc<App>>, request: Request) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    fetch_metadata::check(&parts.headers)?;
    let deadline = parts.extensions.get::<Deadline>().copied();
    let body = body::read(&parts.headers, body, deadline).await?;
    let query = parts.uri.query().unwrap_or_default();
    let params = body::params_in_body(ENDPOINT.parameters, &parts.headers, query, &body)?;
    let named = params.get("client_id").and_then(|id| app.clients.by_id(id));
    let presented = match named {
        Some(client) if client.cookies.is_some() => Presented::of_page(&parts.headers, &params)?,
        Some(_) | None => Presented::read(&parts.headers, &params)?,
    };
    let client = presented.client(&app);
    let answered = mint(&app, &presented, client.as_deref(), &parts, &params).await;
    Ok(respond::to(client, answered))
}

async fn mint(
    app: &App,
    presented: &Presented,
    client: Option<&Client>,
    parts: &Parts,
    params: &Params<'_>,
) -> Result<Response, Error> {
    let client = presented.authenticate(app, client)?;
    let target = params.required("target")?;
    let refresh_token = match client.naming(app.issuer.is_secure()) {
        Some(naming) => {
            cookies::check_page(&parts.headers, client)?;
            let found = cookies::find(naming, Cookie::RefreshToken, &parts.headers)?;
            found.ok_or(Refusal::SessionMissing)?
        }
        None => params.required("refresh_token")?,
    };
    // It is stored, as a new guest is.
    let source = Visitor::of_request(app, parts).source(Some(client))?;
    app.check_new_guest(client, source)?;
    let minted = app.mint_ticket(client, target, refresh_token).await?;
    Ok(axum::Json(Shown {
        ticket: &minted.ticket,
        expires_in: minted.expires_in.as_secs(),
    })
    .into_response())
}
