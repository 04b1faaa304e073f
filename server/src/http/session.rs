//! `POST /oauth/session`: keeps a guest in the browser's cookies.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::{COOKIE, ORIGIN, SET_COOKIE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use guestpass_core::client::Client;
use guestpass_core::cookies::{self, Cookie, CookieName, Found, SEED_TTL};
use guestpass_core::presented_token::SESSION_PARAMETERS;
use guestpass_core::refusal::Refusal;
use serde::Serialize;
use serde_json::{Value, json};

use super::client_auth::Presented;
use super::endpoint::{Answer, Caller, Endpoint, Operation, ParameterLocation, Schema, sub, subn};
use super::visitor::Visitor;
use super::{body, fetch_metadata, respond};
use crate::app::App;
use crate::error::Error;
use crate::listen::Deadline;
use crate::sessions::{Jar, Session, refresh_max_age};

pub(super) static ENDPOINT: Endpoint = Endpoint {
    path: "/oauth/session",
    allow: "POST, OPTIONS",
    parameters: SESSION_PARAMETERS,
    location: ParameterLocation::Body,
    caller: Caller::Page,
    operations: &[Operation {
        methods: &["POST"],
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
    }],
};

#[derive(Serialize)]
struct Shown<'a> {
    sub: &'a str,
    subn: &'a str,
    expires_in: u64,
    new: bool,
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
    let presented = Presented::read(&parts.headers, &params)?;
    let client = presented.client(&app);
    let answered = ensure(&app, &presented, client.as_deref(), &parts).await;
    Ok(respond::to(client, answered))
}

async fn ensure(
    app: &App,
    presented: &Presented,
    client: Option<&Client>,
    parts: &Parts,
) -> Result<Response, Error> {
    let client = presented.authenticate(app, client)?;
    let name = client.cookies.as_ref().ok_or(Refusal::CookiesOff)?;
    check_page(&parts.headers, client)?;
    fetch_metadata::check_use(&parts.headers)?;
    let names = Names::new(name, app.issuer.is_secure());
    let jar = names.jar(&parts.headers)?;
    let source = Visitor::of_request(app, parts).source(Some(client))?;
    let session = app.ensure_session(client, jar, source).await?;
    let mut response = shown(&session);
    for cookie in names.set(&session) {
        // A token, and names of the same letters: nothing that a header can't have.
        let value =
            HeaderValue::from_str(&cookie).map_err(|error| Error::Internal(error.to_string()))?;
        response.headers_mut().append(SET_COOKIE, value);
    }
    Ok(response)
}

/// Checks that the request comes from a page of this client, on the server's site. Browsers send `Origin` with every POST, and
/// would store the cookies that answer a form of a foreign page.
fn check_page(headers: &HeaderMap, client: &Client) -> Result<(), Refusal> {
    let mut origins = headers
        .get_all(ORIGIN)
        .iter()
        .map(HeaderValue::as_bytes)
        .peekable();
    match origins.peek() {
        None | Some(&b"null") => return Err(Refusal::OriginMissing),
        Some(_) => {}
    }
    if !origins.all(|origin| client.has_origin(origin)) {
        return Err(Refusal::OriginForeign);
    }
    let mut sites = headers.get_all("sec-fetch-site").iter();
    if sites.any(|site| site == "cross-site") {
        return Err(Refusal::CrossSite);
    }
    Ok(())
}

/// The names of a client's cookies at this server.
struct Names {
    access_token: String,
    refresh_token: String,
    seed: String,
    is_secure: bool,
}

impl Names {
    fn new(name: &CookieName, is_secure: bool) -> Self {
        Self {
            access_token: name.of(Cookie::AccessToken, is_secure),
            refresh_token: name.of(Cookie::RefreshToken, is_secure),
            seed: name.of(Cookie::Seed, is_secure),
            is_secure,
        }
    }

    /// Reads the cookies of a request.
    fn jar<'a>(&self, headers: &'a HeaderMap) -> Result<Jar<'a>, Refusal> {
        let find = |name: &str| {
            let fields = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
            match cookies::find(fields, name) {
                Found::Absent => Ok(None),
                Found::Value(value) => Ok(Some(str::from_utf8(value).unwrap_or_default())),
                Found::Different => Err(Refusal::CookiesDisagree),
            }
        };
        Ok(Jar {
            // Of two, none: whoever is here says so by the refresh token.
            access_token: find(&self.access_token).unwrap_or(None),
            refresh_token: find(&self.refresh_token)?,
            seed: find(&self.seed)?,
        })
    }

    /// Renders the cookies that an answer sets.
    fn set(&self, session: &Session) -> Vec<String> {
        let set = |cookie, value: &str, max_age| {
            let name = match cookie {
                Cookie::AccessToken => &self.access_token,
                Cookie::RefreshToken => &self.refresh_token,
                Cookie::Seed => &self.seed,
            };
            cookies::set(name, cookie, value, max_age, self.is_secure)
        };
        match session {
            Session::Current { .. } => Vec::new(),
            Session::Again(seed) => vec![set(Cookie::Seed, seed, SEED_TTL)],
            Session::Kept { tokens, is_new } => {
                let expires_in = Duration::from_secs(tokens.expires_in.unsigned_abs());
                let access = cookies::access_max_age(expires_in);
                let mut set_cookies = vec![
                    set(
                        Cookie::RefreshToken,
                        &tokens.refresh_token,
                        refresh_max_age(tokens),
                    ),
                    set(Cookie::AccessToken, &tokens.access_token, access),
                ];
                if *is_new {
                    set_cookies.push(set(Cookie::Seed, "", Duration::ZERO));
                }
                set_cookies
            }
        }
    }
}

fn shown(session: &Session) -> Response {
    let (sub, subn, expires_in, new) = match session {
        Session::Again(_) => {
            let again = axum::Json(json!({"again": true}));
            return (StatusCode::ACCEPTED, again).into_response();
        }
        Session::Current {
            sub,
            subn,
            expires_in,
        } => (sub.clone(), subn.clone(), expires_in.as_secs(), false),
        Session::Kept { tokens, is_new } => (
            tokens.profile.to_string(),
            tokens.network_id.to_string(),
            tokens.expires_in.unsigned_abs(),
            *is_new,
        ),
    };
    axum::Json(Shown {
        sub: &sub,
        subn: &subn,
        expires_in,
        new,
    })
    .into_response()
}
