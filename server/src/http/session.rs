//! `POST` and `DELETE /oauth/session`: keeps a guest in the browser's cookies, and forgets it there.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use guestpass_core::client::{CLIENT_SECRET, Client};
use guestpass_core::cookies::Naming;
use guestpass_core::params::Params;

use guestpass_core::refusal::Refusal;
use guestpass_core::session::{END_PARAMETERS, PARAMETERS, YES};
use serde::Serialize;
use serde_json::{Value, json};

use super::client_auth::Presented;
use super::endpoint::{
    Answer, Caller, Endpoint, Operation, ParameterLocation, Schema, access_token, sub, subn,
};
use super::visitor::Visitor;
use super::{body, cookies, respond};
use crate::app::App;
use crate::error::Error;
use crate::listen::Deadline;
use crate::sessions::{Brought, Session};

pub(super) static ENDPOINT: Endpoint = Endpoint {
    path: "/oauth/session",
    allow: "POST, DELETE, OPTIONS",
    parameters: PARAMETERS,
    location: ParameterLocation::Body,
    caller: Caller::Page,
    early_check: None,
    operations: &[OPERATION, END],
};

const OPERATION: Operation = Operation {
    methods: &["POST"],
    query: None,
    id: "session",
    summary: "Keep a guest in the browser's cookies",
    about: "For pages of a public client with cookies (`guestpass client set ID --cookies guest`), at each load, from an origin \
                that the client has registered. A known guest is answered at once. A new one takes two requests: after a 202 \
                the page asks once more, and the guest is made if the browser has kept the cookie. The cookies are `HttpOnly`: \
                no script can read them, and the server that renders the page can.",
    answers: &[
        Answer {
            headers: &["set-cookie"],
            ..Answer::json(
                "The browser has a guest.",
                Schema {
                    name: "Session",
                    of: schema,
                },
            )
        },
        Answer {
            status: StatusCode::ACCEPTED,
            headers: &["set-cookie"],
            ..Answer::json(
                "Ask once more: the browser has a cookie now, if it keeps any.",
                Schema {
                    name: "SessionAgain",
                    of: schema_of_again,
                },
            )
        },
    ],
};

const END: Operation = Operation {
    methods: &["DELETE"],
    query: Some(END_PARAMETERS),
    id: "endSession",
    summary: "Forget the browser's guest",
    about: "For pages of a client with cookies, when a consent is withdrawn: revokes the grant behind the cookies, or erases the \
            guest with `erase=yes`, and deletes the cookies. It does so whatever was there.",
    answers: &[Answer {
        headers: &["set-cookie"],
        ..Answer::empty(StatusCode::NO_CONTENT, "The browser has no guest any more.")
    }],
};

#[derive(Serialize)]
struct Shown<'a> {
    sub: &'a str,
    subn: &'a str,
    expires_in: u64,
    new: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    access_token: Option<&'a str>,
}

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "sub": sub(),
            "subn": subn(),
            "expires_in": {
                "type": "integer",
                "minimum": 0,
                "description": "The seconds that are left of the access token in the cookie. Ask again when three quarters are over.",
            },
            "new": {"type": "boolean", "description": "The guest was made just now."},
            "access_token": access_token(),
        },
        "required": ["sub", "subn", "expires_in", "new"],
        "additionalProperties": false,
    })
}

fn schema_of_again() -> Value {
    json!({
        "type": "object",
        "properties": {"again": {"const": true}},
        "required": ["again"],
        "additionalProperties": false,
    })
}

pub(super) async fn post(State(app): State<Arc<App>>, request: Request) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    let deadline = parts.extensions.get::<Deadline>().copied();
    let body = body::read(&parts.headers, body, deadline).await?;
    let query = parts.uri.query().unwrap_or_default();
    let params = body::params_in_body(ENDPOINT.parameters, &parts.headers, query, &body)?;
    let presented = Presented::of_page(&parts.headers, &params)?;
    let client = presented.client(&app);
    let answered = ensure(&app, &presented, client.as_deref(), &parts, &params).await;
    Ok(respond::to(client, answered))
}

pub(super) async fn delete(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Error> {
    let (parts, _) = request.into_parts();
    let query = parts.uri.query().unwrap_or_default();
    Params::check_lacks(query, CLIENT_SECRET.name)?;
    let params = Params::from_form(END_PARAMETERS, query.as_bytes())?;
    let presented = Presented::of_page(&parts.headers, &params)?;
    let client = presented.client(&app);
    let answered = end(&app, &presented, client.as_deref(), &parts, &params).await;
    Ok(respond::to(client, answered))
}

async fn ensure(
    app: &App,
    presented: &Presented,
    client: Option<&Client>,
    parts: &Parts,
    params: &Params<'_>,
) -> Result<Response, Error> {
    let (client, naming) = of_page(app, presented, client, parts)?;
    let jar = cookies::jar(naming, &parts.headers)?;
    let brought = match (params.get("refresh_token"), params.get("ticket")) {
        (Some(_), Some(_)) => return Err(Refusal::GuestRepeated.into()),
        (Some(refresh_token), None) => Some(Brought::RefreshToken(refresh_token)),
        (None, Some(ticket)) => Some(Brought::Ticket(ticket)),
        (None, None) => None,
    };
    let source = Visitor::of_request(app, parts).source(Some(client))?;
    let session = app.ensure_session(client, jar, brought, source).await?;
    let mut response = shown(&session, client.page_token);
    cookies::set(naming, &session, &mut response)?;
    Ok(response)
}

async fn end(
    app: &Arc<App>,
    presented: &Presented,
    client: Option<&Client>,
    parts: &Parts,
    params: &Params<'_>,
) -> Result<Response, Error> {
    let (client, naming) = of_page(app, presented, client, parts)?;
    let erases = match params.get("erase") {
        None => false,
        Some(YES) => true,
        Some(_) => return Err(Refusal::EraseUnsupported.into()),
    };
    let jar = cookies::last_jar(naming, &parts.headers);
    let source = Visitor::of_request(app, parts).source(Some(client))?;
    app.check_ending(Some(client), source)?;
    app.end_session(client, jar, erases).await?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    cookies::clear(naming, &mut response)?;
    Ok(response)
}

/// Checks who asks, in this order: the client, the page it comes from, and that it is made for use.
fn of_page<'a>(
    app: &App,
    presented: &Presented,
    client: Option<&'a Client>,
    parts: &Parts,
) -> Result<(&'a Client, Naming<'a>), Error> {
    let client = presented.authenticate(app, client)?;
    let naming = client
        .naming(app.issuer.is_secure())
        .ok_or(Refusal::CookiesOff)?;
    cookies::check_page(&parts.headers, client)?;
    Ok((client, naming))
}

fn shown(session: &Session, tells_token: bool) -> Response {
    let (sub, subn, expires_in, new, access_token) = match session {
        Session::Again(_) => {
            let mut again = respond::json_with_room(AGAIN.to_owned(), ROOM_FOR_PAGES);
            *again.status_mut() = StatusCode::ACCEPTED;
            return again;
        }
        Session::Current {
            sub,
            subn,
            expires_in,
            access_token,
        } => (
            sub.clone(),
            subn.clone(),
            expires_in.as_secs(),
            false,
            access_token,
        ),
        Session::Kept { tokens, is_new } => (
            tokens.profile.to_string(),
            tokens.network_id.to_string(),
            tokens.expires_in.unsigned_abs(),
            *is_new,
            &tokens.access_token,
        ),
    };
    let shown = Shown {
        sub: &sub,
        subn: &subn,
        expires_in,
        new,
        access_token: tells_token.then_some(access_token),
    };
    let text = serde_json::to_string(&shown).expect("texts become JSON");
    respond::json_with_room(text, ROOM_FOR_PAGES)
}

const AGAIN: &str = r#"{"again":true}"#;

/// The header fields that pages get beside those that every answer has: cookies, and the permission to read it.
const ROOM_FOR_PAGES: usize = 5;
