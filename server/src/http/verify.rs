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
use guestpass_core::authorize::CLIENT_ID;
use guestpass_core::client::{ClaimName, Client};
use guestpass_core::cookies::Cookie;
use guestpass_core::credential::Credential;
use guestpass_core::limits::MAX_CLIENT_ID_BYTES;
use guestpass_core::params::{Accepts, Parameter, Params, Presence};
use guestpass_core::refusal::{Refusal, WireCode};
use serde_json::{Value, json};

use super::cookies::PageOrigin;
use super::endpoint::{
    Answer, Caller, Endpoint, Operation, ParameterLocation, Schema, seconds, sub,
};
use super::link::customer;
use super::{cookies, guest_auth, respond};
use crate::access_tokens::VerifiedToken;
use crate::app::App;
use crate::error::Error;
use crate::metrics::VerifiedBy;
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
        Parameter {
            name: "client_id",
            max_bytes: MAX_CLIENT_ID_BYTES,
            presence: Presence::Optional,
            accepts: CLIENT_ID,
            about: "A client whose pages keep their guest in cookies: these count where no header has a token. The gateway then \
                    repeats `Cookie` and `Origin`, too.",
        },
    ],
    location: ParameterLocation::Query,
    caller: Caller::Gateway,
    early_check: None,
    operations: &[Operation {
        methods: &[
            "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE",
        ],
        query: None,
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
    let pages = params
        .given("client_id")
        .and_then(|id| app.clients.by_id(id));
    let headers = request.headers();
    match verified(&app, headers, pages.as_deref(), audience).await {
        Ok(verified) => {
            app.metrics.count_verified(verified.by);
            let answer = identity(&verified);
            Ok(respond::to(Some(verified.client), Ok(answer)))
        }
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

/// Says whose request it is.
struct Verified {
    client: Arc<Client>,
    sub: String,
    subn: String,
    customer: Option<String>,
    /// Until when that is so, in seconds since the epoch.
    expires_at: i64,
    /// Names what said so.
    by: VerifiedBy,
}

impl Verified {
    fn by(VerifiedToken { claims, client, .. }: VerifiedToken, by: VerifiedBy) -> Self {
        Self {
            client,
            sub: claims.subject,
            subn: claims.network_id.unwrap_or_default(),
            customer: claims.customer,
            expires_at: claims.expires_at,
            by,
        }
    }
}

/// Identifies the guest of a request. A token in a header decides alone, good or bad: what is said counts more than what a
/// browser sends by itself. `pages` is the client whose cookies count where there is none.
async fn verified(
    app: &App,
    headers: &HeaderMap,
    pages: Option<&Client>,
    audience: Option<&str>,
) -> Result<Verified, Error> {
    let token = match (guest_auth::token(headers), pages) {
        (Err(Refusal::AccessTokenMissing), Some(pages)) => {
            // Boxed: requests with a header shall not have room for it.
            return Box::pin(verified_by_cookies(app, headers, pages, audience)).await;
        }
        (token, _) => app.verify(token?)?,
    };
    check_audience(&token.claims.audience, audience)?;
    app.check_recent(&token)
        .await
        .map_err(|error| error.about(token.grant))?;
    Ok(Verified::by(token, VerifiedBy::Header))
}

fn check_audience(of_token: &[String], audience: Option<&str>) -> Result<(), Refusal> {
    match audience {
        Some(audience) if !of_token.iter().any(|aud| aud == audience) => {
            Err(Refusal::AccessTokenLacksAudience)
        }
        Some(_) | None => Ok(()),
    }
}

/// Identifies the guest by the access token in a cookie, and where that is missing or over by the refresh token in another: so a
/// server knows the guest with the first request of a day. Nothing is renewed, which is the page's to do.
async fn verified_by_cookies(
    app: &App,
    headers: &HeaderMap,
    pages: &Client,
    audience: Option<&str>,
) -> Result<Verified, Error> {
    let missing = Refusal::AccessTokenMissing;
    let naming = pages.naming(app.issuer.is_secure()).ok_or(missing)?;
    // Browsers send `Origin` with every unsafe method, also to the page's own host: a foreign form is nobody's.
    let is_ours = matches!(
        PageOrigin::of(headers, pages),
        PageOrigin::Absent | PageOrigin::Own
    );
    if !is_ours || pages.disabled {
        return Err(missing.into());
    }
    let access_token = cookies::find(naming, Cookie::AccessToken, headers).map_err(|_| missing)?;
    let refresh_token =
        cookies::find(naming, Cookie::RefreshToken, headers).map_err(|_| missing)?;
    let refresh_token = app.open_refresh_token(refresh_token).await?;
    let by_access_token = match access_token {
        Some(text) => by_access_cookie(app, text, pages, refresh_token).await,
        None => Err(missing.into()),
    };
    match (by_access_token, refresh_token) {
        (Ok(token), _) => {
            check_audience(&token.claims.audience, audience)?;
            Ok(Verified::by(token, VerifiedBy::AccessCookie))
        }
        // What can't be told now is told by the row.
        (Err(_), Some(refresh_token)) => {
            by_refresh_cookie(app, refresh_token, pages, audience).await
        }
        (Err(error @ Error::Unavailable(_)), None) => Err(error),
        (Err(_), None) => Err(missing.into()),
    }
}

/// Checks an access token of the client, and of the grant of its refresh token if there is one.
async fn by_access_cookie(
    app: &App,
    text: &str,
    pages: &Client,
    refresh_token: Option<Credential>,
) -> Result<VerifiedToken, Error> {
    let token = app.verify(text)?;
    let is_of_grant = refresh_token.is_none_or(|opened| opened.grant == token.grant);
    if token.client.number != pages.number || !is_of_grant {
        return Err(Refusal::AccessTokenMissing.into());
    }
    app.check_recent(&token).await?;
    Ok(token)
}

async fn by_refresh_cookie(
    app: &App,
    refresh_token: Credential,
    pages: &Client,
    audience: Option<&str>,
) -> Result<Verified, Error> {
    let missing = Refusal::AccessTokenMissing;
    let grant = app.grant_of(pages, refresh_token).await?.ok_or(missing)?;
    let client = app.clients.by_number(grant.client).ok_or(missing)?;
    check_audience(&app.audiences_of(&client), audience)?;
    request_context::grant(grant.id);
    Ok(Verified {
        sub: grant.id.profile.to_string(),
        subn: grant.network_id.to_string(),
        customer: grant
            .customer()
            .filter(|_| client.is_told(ClaimName::CUSTOMER))
            .map(ToString::to_string),
        expires_at: app.clock.now().as_seconds(),
        by: VerifiedBy::RefreshCookie,
        client,
    })
}

const SUB: HeaderName = HeaderName::from_static("x-guestpass-sub");
const SUBN: HeaderName = HeaderName::from_static("x-guestpass-subn");
const CLIENT: HeaderName = HeaderName::from_static("x-guestpass-client");
const CUSTOMER: HeaderName = HeaderName::from_static("x-guestpass-customer");

fn identity(verified: &Verified) -> Response {
    let client_id = verified.client.id.as_str();
    let mut identity = json!({
        "sub": verified.sub,
        "subn": verified.subn,
        "client_id": client_id,
        "exp": verified.expires_at,
    });
    if let Some(customer) = &verified.customer {
        identity["customer"] = customer.as_str().into();
    }
    let mut response = respond::json_with_room(identity.to_string(), 4);
    let headers = response.headers_mut();
    for (name, value) in [
        (SUB, &*verified.sub),
        (SUBN, &verified.subn),
        (CLIENT, client_id),
        // There even if the token doesn't say, so that a gateway overwrites what the request says.
        (CUSTOMER, verified.customer.as_deref().unwrap_or_default()),
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
