//! The components of the document: responses, headers, schemas and security schemes that operations refer to.

use std::borrow::Cow;

use axum::http::StatusCode;
use guestpass_core::limits::{
    MAX_BODY_BYTES, MAX_FIELD_BYTES, MAX_FIELDS, MAX_HEADER_BYTES, MAX_TARGET_BYTES,
};
use guestpass_core::refusal::{Refusal, WireCode};
use serde_json::{Map, Value, json};

use super::super::attributes::attributes;
use super::super::endpoint::{Caller, seconds, sid, sub, subn};
use super::super::link::customer;

pub(super) const ABOUT: &str = "\
OAuth 2.0 (RFC 6749) with PKCE (RFC 7636) for guests: visitors without an account, whom a shop wants to recognise.

1. `authorize` creates a guest and issues a code.
2. `token` exchanges the code for an access token (a JWT) and a refresh token.
3. `token` exchanges the refresh token for the next tokens of the same guest.

An empty parameter counts as absent, a repeated one is refused, and an unknown one is ignored. Beside the answers of each
operation, an endpoint answers a method that it doesn't support with a 405, whose `allow` header lists those that it
supports, and an unknown path is answered with a 404; both have the body of every error.";

pub(super) fn security(caller: Caller) -> Value {
    match caller {
        // The document has none for operators.
        Caller::Anyone | Caller::Operator => json!([]),
        // A key may also stand in the body.
        Caller::Client(_) | Caller::BackEnd => json!([{}, {"apiKey": []}, {"basic": []}]),
        Caller::ConfidentialClient => json!([{"apiKey": []}, {"basic": []}]),
        // Whoever has no cookie gets one.
        Caller::Page => json!([{}, {"refreshCookie": []}]),
        Caller::Guest => json!([{"bearer": []}, {"userJwt": []}]),
        // With `mode=soft` a request needs none.
        Caller::Gateway => {
            json!([{"bearer": []}, {"userJwt": []}, {"accessCookie": []}, {"refreshCookie": []}, {}])
        }
    }
}

pub(super) fn security_schemes() -> Value {
    json!({
        "apiKey": {
            "type": "apiKey",
            "in": "header",
            "name": "x-api-key",
            "description": "The API key of a confidential client, which `client_id` names. A public client has none.",
        },
        "basic": {
            "type": "http",
            "scheme": "basic",
            "description": "The client's id and its API key, each form-encoded (RFC 6749, section 2.3.1). The password \
                            of a public client is empty.",
        },
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "The guest's access token (RFC 6750).",
        },
        "accessCookie": {
            "type": "apiKey",
            "in": "cookie",
            "name": "__Host-guest",
            "description": "The guest's access token. `guest` stands for the name of the client's cookies.",
        },
        "refreshCookie": {
            "type": "apiKey",
            "in": "cookie",
            "name": "__Host-guest-r",
            "description": "The guest's refresh token. `guest` stands for the name of the client's cookies.",
        },
        "userJwt": {
            "type": "apiKey",
            "in": "header",
            "name": "x-dressipi-jwt",
            "description": "The guest's access token, as existing clients send it.",
        },
    })
}

/// Builds the responses that operations refer to, by name.
pub(super) fn responses() -> Map<String, Value> {
    let mut responses: Map<_, _> = errors()
        .map(|(status, _)| (name(status), response(status, true)))
        .into_iter()
        .collect();
    let cors = [
        "allow",
        "access-control-allow-methods",
        "access-control-allow-headers",
        "access-control-max-age",
    ];
    let options = json!({
        "description": "The allowed methods; to the CORS preflight of a registered origin, also what its web page may send.",
        "headers": headers_of(false, &cors),
    });
    responses.insert("Options".to_owned(), options);
    responses
}

/// Describes the answer to an error.
pub(super) fn response(status: StatusCode, has_body: bool) -> Value {
    let about = errors()
        .into_iter()
        .find_map(|(described, about)| (described == status).then_some(about));
    let headers: &[_] = match status {
        StatusCode::UNAUTHORIZED => &["www-authenticate"],
        StatusCode::SERVICE_UNAVAILABLE => &["retry-after"],
        StatusCode::TOO_MANY_REQUESTS => &["retry-after", "ratelimit", "ratelimit-policy"],
        _ => &[],
    };
    let mut response = json!({
        "description": about.unwrap_or_default(),
        "headers": headers_of(false, headers),
    });
    if has_body {
        response["content"] = json_content("Error");
    }
    response
}

/// Names the response to an error: its reason phrase without spaces.
pub(super) fn name(status: StatusCode) -> String {
    status
        .canonical_reason()
        .unwrap_or_default()
        .replace(' ', "")
}

pub(super) fn json_content(schema: &str) -> Value {
    content("application/json", schema)
}

pub(super) fn content(media_type: &str, schema: &str) -> Value {
    json!({media_type: {"schema": {"$ref": format!("#/components/schemas/{schema}")}}})
}

/// Builds references to the headers of an answer: those of all answers, its own, and those about caching.
pub(super) fn headers_of(is_cacheable: bool, own: &[&str]) -> Value {
    let caching: &[_] = if is_cacheable {
        &[("cache-control", "cacheable"), ("etag", "etag")]
    } else {
        &[("cache-control", "cache-control"), ("pragma", "pragma")]
    };
    ALWAYS
        .iter()
        .chain(own)
        .map(|name| (*name, *name))
        .chain(caching.iter().copied())
        .map(|(header, name)| {
            let reference = format!("#/components/headers/{name}");
            (header.to_owned(), json!({"$ref": reference}))
        })
        .collect::<Map<_, _>>()
        .into()
}

/// The headers that every answer of an endpoint has.
const ALWAYS: [&str; 7] = [
    "x-request-id",
    "x-content-type-options",
    "referrer-policy",
    "content-security-policy",
    "vary",
    "access-control-allow-origin",
    "access-control-expose-headers",
];

/// Describes each status of an error.
fn errors() -> [(StatusCode, Cow<'static, str>); 11] {
    let kib = |bytes: usize| bytes / 1024;
    [
        (
            StatusCode::BAD_REQUEST,
            "The request is refused; `error` says why. It has changed nothing, except that the \
             replay of a code or a refresh token ends its grant."
                .into(),
        ),
        (
            StatusCode::UNAUTHORIZED,
            "Authentication failed or is missing; `www-authenticate` names the scheme to use."
                .into(),
        ),
        (
            StatusCode::REQUEST_TIMEOUT,
            "The body did not arrive in time.".into(),
        ),
        (
            StatusCode::CONFLICT,
            "The guest is linked to another customer, and stays so.".into(),
        ),
        (
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("The body is longer than {} KiB.", kib(MAX_BODY_BYTES)).into(),
        ),
        (
            StatusCode::URI_TOO_LONG,
            format!(
                "Path and query are longer than {} KiB.",
                kib(MAX_TARGET_BYTES)
            )
            .into(),
        ),
        (
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "The body is neither a form nor JSON in UTF-8, or it is compressed.".into(),
        ),
        (
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            format!(
                "The header has more than {MAX_FIELDS} fields, a field longer than {} KiB, or is \
                 longer than {} KiB.",
                kib(MAX_FIELD_BYTES),
                kib(MAX_HEADER_BYTES),
            )
            .into(),
        ),
        (
            StatusCode::TOO_MANY_REQUESTS,
            "Nothing is wrong with the request, but its address or its client has sent too many: \
             keep the stored tokens and retry after `retry-after` seconds."
                .into(),
        ),
        (
            StatusCode::INTERNAL_SERVER_ERROR,
            "A defect of the server. Its log has the details, under the answer's `x-request-id`."
                .into(),
        ),
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "Nothing is wrong with the request: keep the stored tokens and retry after \
             `retry-after` seconds."
                .into(),
        ),
    ]
}

/// Builds the headers that answers refer to.
pub(super) fn headers() -> Value {
    let constant = |value: &str| json!({"required": true, "schema": {"const": value}});
    let of_origin = |about: &str, schema: Value| json!({"description": about, "schema": schema});
    let identity =
        |about: &str| json!({"required": true, "description": about, "schema": {"type": "string"}});
    let text = || json!({"type": "string"});
    json!({
        "x-request-id": {
            "required": true,
            "description": "Identifies the request in the server's log.",
            "schema": {"type": "string", "pattern": "^[A-Za-z0-9_-]{16,}$"},
        },
        "x-content-type-options": constant("nosniff"),
        "referrer-policy": constant("no-referrer"),
        "content-security-policy": constant("default-src 'none'; frame-ancestors 'none'"),
        "vary": constant("Origin"),
        "access-control-allow-origin": of_origin("The `origin` of the request, if the client has registered it.", text()),
        "access-control-expose-headers": of_origin("The headers that a web page of this origin may read.", text()),
        "access-control-allow-methods": of_origin("The methods that a web page of this origin may use.", text()),
        "access-control-allow-headers": of_origin("The headers that a web page of this origin may send.", text()),
        "access-control-max-age": of_origin("How many seconds the browser may cache the preflight.", json!({"type": "integer"})),
        "allow": {"required": true, "description": "The methods that the endpoint supports.", "schema": text()},
        "cache-control": constant("no-store"),
        "pragma": constant("no-cache"),
        "cacheable": {
            "required": true,
            "description": "How many seconds any cache may keep the document.",
            "schema": {"type": "string", "pattern": "^public, max-age=[0-9]+$"},
        },
        "set-cookie": {
            "description": "The cookies of the client, `HttpOnly`. Absent if they stay as they are.",
            "schema": text(),
        },
        "etag": {
            "required": true,
            "description": "The version of the document, for `if-none-match`.",
            "schema": {"type": "string", "pattern": "^\"[A-Za-z0-9_-]{16}\"$"},
        },
        "retry-after": {
            "required": true,
            "description": "How many seconds to wait before the retry.",
            "schema": {"type": "integer", "minimum": 1},
        },
        "ratelimit": {
            "required": true,
            "description": "The limit, what is left of it, and the seconds until there is more.",
            "schema": {"type": "string"},
        },
        "ratelimit-policy": {
            "required": true,
            "description": "The limit: how many in how many seconds.",
            "schema": {"type": "string"},
        },
        "www-authenticate": {
            "required": true,
            "description": "The scheme that failed or is needed: `Basic` for clients, `Bearer` for guests.",
            "schema": {"type": "string", "pattern": "^(Basic realm=\"guestpass\"|Bearer)"},
        },
        "x-guestpass-sub": identity("The guest's `sub`; empty if the request is nobody's."),
        "x-guestpass-subn": identity("The guest's `subn`; empty if the request is nobody's."),
        "x-guestpass-client": identity("The `client_id` of the token; empty if the request is nobody's."),
        "x-guestpass-customer": identity(
            "The `customer` of the token: a label, and never a login. Empty if the token names none, or the request is nobody's.",
        ),
    })
}

/// Builds the schemas that no endpoint describes.
pub(super) fn schemas() -> Map<String, Value> {
    let own = [
        WireCode::UnauthorizedClient,
        WireCode::TemporarilyUnavailable,
        WireCode::ServerError,
    ];
    let mut codes: Vec<_> = Refusal::all()
        .iter()
        .map(|refusal| refusal.wire_code())
        .chain(own)
        .map(WireCode::as_str)
        .collect();
    codes.sort_unstable();
    codes.dedup();
    let error = json!({
        "type": "object",
        "description": "The body of every error (RFC 6749, section 5.2).",
        "properties": {
            "error": {"type": "string", "enum": codes},
            "error_description": {
                "type": "string",
                "pattern": r"^[\x20\x21\x23-\x5b\x5d-\x7e]+$",
                "description": "Explains the error to people. The wording may change.",
            },
        },
        "required": ["error", "error_description"],
        "additionalProperties": false,
        "examples": [{
            "error": WireCode::InvalidRequest.as_str(),
            "error_description": Refusal::ParameterMissing("state").public_text(),
        }],
    });
    let text = |about: &str| json!({"type": "string", "description": about});
    let claims = json!({
        "type": "object",
        "description": "The claims of an access token (RFC 9068). Clients read `exp`, `iat`, `iss`, `sub` and `subn`.",
        "properties": {
            "iss": text("The issuer."),
            "sub": sub(),
            "subn": subn(),
            "aud": {"description": "The issuer, alone or after the configured audience.", "anyOf": [
                {"type": "string"},
                {"type": "array", "items": {"type": "string"}},
            ]},
            "client_id": text("The client that the token was issued to."),
            "iat": seconds("When the token was issued"),
            "exp": seconds("When the token expires"),
            "jti": text("The id of the token."),
            "sid": sid(),
            "customer": customer(),
            "attrs": attributes(),
        },
        "required": ["iss", "sub", "subn", "aud", "client_id", "iat", "exp", "jti", "sid"],
    });
    [("Error", error), ("AccessTokenClaims", claims)]
        .map(|(name, schema)| (name.to_owned(), schema))
        .into_iter()
        .collect()
}
