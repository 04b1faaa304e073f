//! Finishes every response: renders errors, adds the common headers, writes the log line. The status codes of errors
//! stand here and nowhere else.

use std::sync::{Arc, LazyLock};

use axum::http::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, PRAGMA,
    REFERRER_POLICY, RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use guestpass_core::client::Client;
use guestpass_core::rate_limit::Exceeded;
use guestpass_core::refusal::{Refusal, WireCode};

use super::cors;
use super::endpoint::{Caller, EarlyRefusal};
use super::envelope::Received;
use crate::app::App;
use crate::error::Error;
use crate::metrics::{Answered, Refused};
use crate::request_context::RequestContext;
use crate::request_id::{Reason, Record};
use crate::store::Unavailable;
use crate::telemetry::TO_SOMEBODY_KNOWN;

/// An answer that isn't finished.
pub(super) struct Unfinished {
    response: Result<Response, Error>,
    /// The client that the request names, for [`cors`] and the log.
    client: Option<Arc<Client>>,
}

impl From<Error> for Unfinished {
    fn from(error: Error) -> Self {
        Self {
            response: Err(error),
            client: None,
        }
    }
}

impl From<EarlyRefusal> for Unfinished {
    fn from(EarlyRefusal { refusal, client }: EarlyRefusal) -> Self {
        Self {
            response: Err(refusal.into()),
            client,
        }
    }
}

impl From<Response> for Unfinished {
    /// Takes what a handler has left in the extensions.
    fn from(mut response: Response) -> Self {
        let extensions = response.extensions_mut();
        let (error, client) = (extensions.remove(), extensions.remove());
        Self {
            response: error.map_or(Ok(response), Err),
            client,
        }
    }
}

/// Returns the answer to a request that names `client`, with the client in its extensions for [`cors`] and the log.
pub(super) fn to(client: Option<Arc<Client>>, answer: Result<Response, Error>) -> Response {
    let mut response = answer.unwrap_or_else(IntoResponse::into_response);
    if let Some(client) = client {
        response.extensions_mut().insert(client);
    }
    response
}

/// Returns a 200 with a JSON body, with capacity for the headers that [`finish`] adds.
pub(super) fn json(text: String) -> Response {
    json_with_room(text, 0)
}

/// Returns the same, with capacity for so many more headers.
pub(super) fn json_with_room(text: String, more: usize) -> Response {
    let mut response = Response::new(text.into());
    let headers = response.headers_mut();
    headers.clone_from(&JSON_HEADERS);
    headers.reserve(ROOM - JSON_HEADERS.len() + more);
    response
}

/// The headers of every JSON answer, put together once: to clone them is cheaper than to add one after the other.
static JSON_HEADERS: LazyLock<HeaderMap> = LazyLock::new(|| {
    let mut headers = HeaderMap::with_capacity(ROOM);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    add_always(&mut headers);
    headers
});

/// Adds the headers that every answer has, unless they are there.
fn add_always(headers: &mut HeaderMap) {
    for (name, value) in ALWAYS {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    // RFC 6749 §5.1 asks for both.
    if headers[CACHE_CONTROL] == "no-store" {
        headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    }
}

/// Answers `OPTIONS`. [`finish`] adds `Allow` and the answer to a CORS preflight.
pub(super) async fn options() -> StatusCode {
    StatusCode::NO_CONTENT
}

/// Renders an error, adds the headers that every answer has, and writes the request's line in the log.
pub(super) fn finish(
    app: &App,
    received: &Received,
    context: RequestContext,
    unfinished: Unfinished,
) -> Response {
    let client = unfinished.client.as_deref();
    let (mut response, error) = match unfinished.response {
        Ok(response) => (response, None),
        Err(error) => {
            let error = counted(app, received, client, error);
            (render(&error, received), Some(error))
        }
    };
    if let (Some(Error::Refused(Refusal::RateLimited(_), _)), Some(peer)) = (&error, &received.peer)
        && received.visitor.is_forwarded()
    {
        app.rate_limits.warn_of_proxy(peer);
    }
    let status = response.status();
    let headers = response.headers_mut();
    // Nothing but `add_always` sets it.
    if !headers.contains_key(X_CONTENT_TYPE_OPTIONS) {
        headers.reserve(ROOM);
        add_always(headers);
    }
    headers.insert(REQUEST_ID, request_id(app, received, error.as_ref()));
    if let Some(endpoint) = received.endpoint {
        if status == StatusCode::METHOD_NOT_ALLOWED || received.method == Method::OPTIONS {
            headers.insert(ALLOW, HeaderValue::from_static(endpoint.allow));
        }
        cors::apply(app, endpoint, received, client, headers);
    }
    log(app, received, context, client, status, error.as_ref());
    response
}

/// Counts an error that may be a guess. Returns it, or the limit of those. What a gateway asks isn't the gateway's guess.
fn counted(app: &App, received: &Received, client: Option<&Client>, error: Error) -> Error {
    let Error::Refused(refusal, _) = error else {
        return error;
    };
    if !refusal.is_guess() || caller(received) == Caller::Gateway {
        return error;
    }
    let is_authentication = matches!(
        refusal.wire_code(),
        WireCode::InvalidClient | WireCode::UnauthorizedClient
    );
    let shows_key = client.filter(|_| !is_authentication);
    match received.visitor.source(shows_key) {
        Ok(Some(source)) => match app.count_guess(client, source) {
            Ok(()) => error,
            Err(limited) => limited.into(),
        },
        Ok(None) | Err(_) => error,
    }
}

/// Returns the request's id, for a failed request followed by the sealed record of its failure.
fn request_id(app: &App, received: &Received, error: Option<&Error>) -> HeaderValue {
    let (name, grant, parameter) = match error {
        None => return visible(&received.id.text()[..]),
        Some(Error::Refused(refusal, grant)) => (refusal.name(), *grant, refusal.parameter()),
        Some(Error::Unavailable(_)) => (Error::UNAVAILABLE, None, None),
        Some(Error::Internal(_)) => (Error::INTERNAL, None, None),
    };
    let record = Record {
        at: app.clock.now(),
        node: app.node.as_str().into(),
        reason: Reason::of(name),
        grant,
        parameter: parameter.map(Into::into),
    };
    visible(app.keys.now().request_ids().seal(received.id, &record))
}

/// The number of header fields that an answer usually has.
const ROOM: usize = 10;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const ALWAYS: [(HeaderName, &str); 4] = [
    (CACHE_CONTROL, "no-store"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; frame-ancestors 'none'",
    ),
];

fn render(error: &Error, received: &Received) -> Response {
    let status = status(error, caller(received), received.tries_basic);
    let (code, text) = match error {
        Error::Refused(refusal, _) => (wire_code(*refusal, received), refusal.public_text()),
        Error::Unavailable(_) => (
            WireCode::TemporarilyUnavailable,
            "the server is busy or its database is, try again later".into(),
        ),
        Error::Internal(_) => (
            WireCode::ServerError,
            "the server has met an error of its own".into(),
        ),
    };
    let mut response = json(body(code, &text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if let Error::Refused(refusal, _) = error {
        say_how_to_go_on(*refusal, status, headers);
    }
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// Returns the body of an error (RFC 6749 §5.2). Neither text has a character that JSON would escape.
fn body(code: WireCode, text: &str) -> String {
    let code = code.as_str();
    [
        r#"{"error":""#,
        code,
        r#"","error_description":""#,
        text,
        r#""}"#,
    ]
    .concat()
}

/// Adds the headers that tell a refused client what to do next.
fn say_how_to_go_on(refusal: Refusal, status: StatusCode, headers: &mut HeaderMap) {
    if status == StatusCode::UNAUTHORIZED {
        let challenge = HeaderValue::from_static(challenge(refusal));
        headers.insert(WWW_AUTHENTICATE, challenge);
    }
    if let Refusal::RequestMalformed | Refusal::BodyTooLong | Refusal::BodyTooSlow = refusal {
        // The body may be unread, so the request boundary is unknown.
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if let Refusal::RateLimited(exceeded) = refusal {
        say_limit(exceeded, headers);
    }
}

/// Says which limit a request is beyond, and for how long (draft-ietf-httpapi-ratelimit-headers).
fn say_limit(exceeded: Exceeded, headers: &mut HeaderMap) {
    let Exceeded {
        limit,
        bucket: (count, period),
        retry_after,
    } = exceeded;
    let name = limit.name();
    // Pieces rather than formats, for there may be a flood of these.
    let (mut count_text, mut period_text, mut wait_text) = Default::default();
    let count = itoa::Buffer::format(&mut count_text, count.get());
    let period = itoa::Buffer::format(&mut period_text, period.as_secs());
    let wait = itoa::Buffer::format(&mut wait_text, retry_after);
    let policy = ["\"", name, "\";q=", count, ";w=", period].concat();
    let left = ["\"", name, "\";r=0;t=", wait].concat();
    headers.insert(RETRY_AFTER, visible(wait));
    headers.insert(RATE_LIMIT_POLICY, visible(policy));
    headers.insert(RATE_LIMIT, visible(left));
}

/// Returns the value of a header whose text is ours.
fn visible<T: TryInto<HeaderValue>>(text: T) -> HeaderValue {
    let value = text.try_into().ok();
    value.expect("it has only visible characters of ASCII")
}

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Returns the `error` of a refusal. A failed client authentication has another one at each endpoint, everything else
/// the same everywhere.
fn wire_code(refusal: Refusal, received: &Received) -> WireCode {
    let code = refusal.wire_code();
    match caller(received) {
        Caller::Client(of_endpoint) if code == WireCode::InvalidClient => of_endpoint,
        Caller::BackEnd if code == WireCode::InvalidToken => WireCode::InvalidGrant,
        Caller::Anyone
        | Caller::Client(_)
        | Caller::ConfidentialClient
        | Caller::BackEnd
        | Caller::Page
        | Caller::Guest
        | Caller::Operator
        | Caller::Gateway => code,
    }
}

fn caller(received: &Received) -> Caller {
    received
        .endpoint
        .map_or(Caller::Anyone, |endpoint| endpoint.caller)
}

/// Returns the status of an error at an endpoint that `caller` calls.
pub(super) fn status(error: &Error, caller: Caller, tries_basic: bool) -> StatusCode {
    match error {
        Error::Refused(refusal, _) => refusal_status(*refusal, caller, tries_basic),
        Error::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        Error::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Returns the statuses that a refusal can have, for the list of errors: two, if it depends on whether the client tried
/// `Authorization: Basic`. At an endpoint for gateways it may be another one.
#[must_use]
pub fn statuses(refusal: Refusal) -> Vec<StatusCode> {
    let caller = Caller::Client(WireCode::InvalidClient);
    let mut statuses = [false, true]
        .map(|tries_basic| refusal_status(refusal, caller, tries_basic))
        .to_vec();
    statuses.dedup();
    statuses
}

fn refusal_status(refusal: Refusal, caller: Caller, tries_basic: bool) -> StatusCode {
    let status = usual_status(refusal);
    let is_invalid_client = refusal.wire_code() == WireCode::InvalidClient;
    let is_challenged = tries_basic && caller != Caller::Page;
    if is_invalid_client && (is_challenged || caller == Caller::ConfidentialClient) {
        // RFC 6749 §5.2: a client that used HTTP authentication gets a 401. RFC 7662 §2.3: introspection always does
        // so.
        return StatusCode::UNAUTHORIZED;
    }
    match (caller, status) {
        (
            Caller::Gateway,
            StatusCode::BAD_REQUEST
            | StatusCode::URI_TOO_LONG
            | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        ) => StatusCode::UNAUTHORIZED,
        // It failed with what it says of a guest, not to say who it is.
        (Caller::BackEnd, StatusCode::UNAUTHORIZED) => StatusCode::BAD_REQUEST,
        (_, status) => status,
    }
}

/// Returns the status of a refusal unless the caller or the scheme of the request requires another. The match has no
/// wildcard, so that a new refusal has to choose.
#[expect(clippy::too_many_lines, reason = "each refusal has a line")]
const fn usual_status(refusal: Refusal) -> StatusCode {
    match refusal {
        Refusal::ParameterMissing(_)
        | Refusal::ParameterRepeated(_)
        | Refusal::ParameterTooLong(_)
        | Refusal::ParameterMalformed(_)
        | Refusal::ParameterInQuery(_)
        | Refusal::UnknownParameterMalformed
        | Refusal::ParametersTooMany
        | Refusal::EncodingMalformed
        | Refusal::BodyNotJson
        | Refusal::QueryParamsDisallowed
        | Refusal::RedirectUriUnsupported
        | Refusal::RedirectUriMismatch
        | Refusal::ResponseTypeUnsupported
        | Refusal::GrantTypeUnsupported
        | Refusal::ScopeUnsupported
        | Refusal::ChallengeMethodUnsupported
        | Refusal::ChallengeMalformed
        | Refusal::VerifierMalformed
        | Refusal::ClientUnknown
        | Refusal::ClientDisabled
        | Refusal::ApiKeyMissing
        | Refusal::ApiKeyWrong
        | Refusal::ApiKeyExpired
        | Refusal::ApiKeyRevoked
        | Refusal::ClientPublic
        | Refusal::BasicMalformed
        | Refusal::AuthenticationRepeated
        | Refusal::ClientIdMismatch
        | Refusal::PermissionMissing
        | Refusal::CustomerMalformed
        | Refusal::AttributesMalformed
        | Refusal::AttributesTooLong
        | Refusal::CookiesOff
        | Refusal::OriginMissing
        | Refusal::OriginForeign
        | Refusal::CrossSite
        | Refusal::CookiesDisagree
        | Refusal::GuestRepeated
        | Refusal::GuestDiffers
        | Refusal::EraseUnsupported
        | Refusal::SessionMissing
        | Refusal::RefreshTokenDead
        | Refusal::TicketMalformed
        | Refusal::TicketTargetDisallowed
        | Refusal::CredentialUnknown
        | Refusal::RefreshTokenAsCode
        | Refusal::CodeAsRefreshToken
        | Refusal::AccessTokenAsCredential
        | Refusal::ApiKeyAsCredential
        | Refusal::GrantGone
        | Refusal::GrantOfAnotherClient
        | Refusal::GrantRevoked
        | Refusal::GrantEnded
        | Refusal::CodeExpired
        | Refusal::CodeGuessedAt
        | Refusal::CodeSpent
        | Refusal::CodeReplayed
        | Refusal::VerifierWrong
        | Refusal::RefreshTokenExpired
        | Refusal::RefreshTokenOvertaken
        | Refusal::RefreshTokenReplayed
        | Refusal::RefreshTokenContested
        | Refusal::RefreshTokenRetriedLate
        | Refusal::AccessTokenOfAnotherClient
        | Refusal::AnswerUnreadable
        | Refusal::VisitorMalformed
        | Refusal::RequestMalformed => StatusCode::BAD_REQUEST,
        // RFC 6750 §3.1.
        Refusal::AccessTokenMissing
        | Refusal::AccessTokensDisagree
        | Refusal::AccessTokenMalformed
        | Refusal::CredentialAsAccessToken
        | Refusal::ApiKeyAsAccessToken
        | Refusal::AccessTokenUnsupported
        | Refusal::AccessTokenKeyUnknown
        | Refusal::AccessTokenForged
        | Refusal::AccessTokenExpired
        | Refusal::AccessTokenNotYetValid
        | Refusal::AccessTokenOfAnotherIssuer
        | Refusal::AccessTokenOfAnotherAudience
        | Refusal::AccessTokenLacksAudience
        | Refusal::AccessTokenOfNoClient
        | Refusal::AccessTokenRevoked
        | Refusal::AccessTokenGrantEnded
        // Only a gateway asks for a mode.
        | Refusal::ModeUnsupported
        | Refusal::OperatorTokenWrong => StatusCode::UNAUTHORIZED,
        Refusal::LinkedToAnother => StatusCode::CONFLICT,
        Refusal::HostUnknown => StatusCode::MISDIRECTED_REQUEST,
        Refusal::PathUnknown => StatusCode::NOT_FOUND,
        Refusal::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Refusal::BodyTooSlow => StatusCode::REQUEST_TIMEOUT,
        Refusal::BodyTooLong => StatusCode::PAYLOAD_TOO_LARGE,
        Refusal::TargetTooLong => StatusCode::URI_TOO_LONG,
        Refusal::MediaTypeUnsupported => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Refusal::HeadersTooLong => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        Refusal::RateLimited(_) => StatusCode::TOO_MANY_REQUESTS,
        Refusal::Prefetch | Refusal::SessionOvertaken => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// Returns the scheme that a 401 asks for, which is the one that failed. Without a token there is no error to name
/// (RFC 6750 §3.1); a gateway's request can be refused for other reasons than its token.
fn challenge(refusal: Refusal) -> &'static str {
    match refusal.wire_code() {
        WireCode::InvalidClient => r#"Basic realm="guestpass", charset="UTF-8""#,
        WireCode::InvalidToken
            if matches!(
                refusal,
                Refusal::AccessTokenMissing | Refusal::OperatorTokenWrong
            ) =>
        {
            "Bearer"
        }
        WireCode::InvalidToken => r#"Bearer error="invalid_token""#,
        WireCode::InvalidRequest
        | WireCode::UnauthorizedClient
        | WireCode::InvalidGrant
        | WireCode::InvalidScope
        | WireCode::UnsupportedGrantType
        | WireCode::UnsupportedResponseType
        | WireCode::LinkedToAnother
        | WireCode::TemporarilyUnavailable
        | WireCode::ServerError => r#"Bearer error="invalid_request""#,
    }
}

/// Writes the one line about a request, and counts it.
fn log(
    app: &App,
    received: &Received,
    context: RequestContext,
    client: Option<&Client>,
    status: StatusCode,
    error: Option<&Error>,
) {
    let endpoint = received.endpoint.map_or("", |endpoint| endpoint.path);
    let answered = Answered {
        endpoint,
        status: status.as_u16(),
    };
    app.metrics.answers.inc(&answered);
    let elapsed = app.clock.monotonic().saturating_sub(received.at);
    // A macro, because tracing wants the level at compile time. The request target is never logged: its query may hold
    // a code, a token or a verifier.
    macro_rules! line {
        ($level:ident $([$name:ident])? $(, $field:ident)*) => {
            tracing::$level!(
                $(name: $name,)?
                target: "guestpass::request",
                endpoint,
                request.id = tracing::field::display(received.id),
                method = method(&received.method),
                status = status.as_u16(),
                $($field,)*
                client.id = client.map(|client| client.id.as_str()),
                grant.id = context.grant.map(tracing::field::display),
                decision = context.decision,
                peer = received.peer.as_ref().map(tracing::field::display),
                elapsed_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
                "answered",
            )
        };
    }
    match error {
        None if client.is_some() || context.grant.is_some() => line!(info[TO_SOMEBODY_KNOWN]),
        None => line!(info),
        Some(Error::Refused(refusal, _)) => {
            let refusal = refusal.name();
            app.metrics.refusals.inc(&Refused { refusal });
            line!(info, refusal);
        }
        Some(Error::Unavailable(Unavailable(reason))) => {
            let reason = reason.as_str();
            line!(warn, reason);
        }
        Some(Error::Internal(reason)) => {
            let reason = reason.as_str();
            line!(error, reason);
        }
    }
}

/// Returns the method for the log. A client can send any token as a method, so unknown ones are not repeated.
fn method(method: &Method) -> &'static str {
    const KNOWN: [&str; 7] = ["GET", "POST", "OPTIONS", "HEAD", "PUT", "PATCH", "DELETE"];
    KNOWN
        .into_iter()
        .find(|known| *known == method.as_str())
        .unwrap_or("other")
}
