//! Extracts the token from a request's headers: `Authorization: Bearer` (RFC 6750 §2.1), or `x-dressipi-jwt` as
//! existing clients of the API send it.

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::rejection::Rejection;

/// The header in which existing clients of the API send their token, without a scheme.
pub const USER_JWT: HeaderName = HeaderName::from_static("x-dressipi-jwt");

/// Returns the token of a request. The same token may be sent more than once.
///
/// `None` if the request is anonymous: it has neither header, another scheme such as Basic, or an empty value (a
/// `Bearer` without a token).
///
/// # Errors
/// Returns [`Rejection::TokensDisagree`] for two different tokens, and [`Rejection::Malformed`] for one that isn't
/// ASCII text.
pub fn token_of(headers: &HeaderMap) -> Result<Option<&str>, Rejection> {
    let authorizations = headers
        .get_all(AUTHORIZATION)
        .iter()
        .filter_map(bearer_credentials);
    let user_jwts = headers.get_all(USER_JWT).iter().map(HeaderValue::as_bytes);
    let mut tokens = authorizations
        .chain(user_jwts)
        .map(<[u8]>::trim_ascii)
        .filter(|token| !token.is_empty());
    let Some(token) = tokens.next() else {
        return Ok(None);
    };
    if tokens.any(|other| other != token) {
        return Err(Rejection::TokensDisagree);
    }
    match std::str::from_utf8(token) {
        Ok(token) if token.is_ascii() => Ok(Some(token)),
        _ => Err(Rejection::Malformed),
    }
}

/// Returns the text after the scheme `Bearer`, which is case-insensitive (RFC 9110 §11.1). `None` for another scheme.
fn bearer_credentials(field: &HeaderValue) -> Option<&[u8]> {
    let (scheme, rest) = field.as_bytes().split_at_checked(b"bearer".len())?;
    let is_bearer = scheme.eq_ignore_ascii_case(b"bearer") && matches!(rest, [] | [b' ', ..]);
    is_bearer.then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_token_a_request_carries() {
        const BEARER: &str = "authorization";
        const JWT: &str = "x-dressipi-jwt";
        for (fields, expected) in [
            (&[][..], Ok(None)),
            (&[(BEARER, "")], Ok(None)),
            (&[(BEARER, "Bearer")], Ok(None)),
            (&[(BEARER, "Bearer  ")], Ok(None)),
            (&[(BEARER, "Basic YTpi")], Ok(None)),
            (&[(BEARER, "Bearera.b.c")], Ok(None)),
            (&[(BEARER, "a.b.c")], Ok(None)),
            (&[(JWT, " ")], Ok(None)),
            (&[(BEARER, "Bearer a.b.c")], Ok(Some("a.b.c"))),
            (&[(BEARER, "bEARER   a.b.c ")], Ok(Some("a.b.c"))),
            (&[(JWT, "a.b.c")], Ok(Some("a.b.c"))),
            (&[(BEARER, "Basic YTpi"), (JWT, "a.b.c")], Ok(Some("a.b.c"))),
            (&[(BEARER, "Bearer"), (JWT, "a.b.c")], Ok(Some("a.b.c"))),
            (
                &[(BEARER, "Bearer a.b.c"), (JWT, "a.b.c")],
                Ok(Some("a.b.c")),
            ),
            (
                &[(BEARER, "Bearer a.b.c"), (BEARER, "bearer a.b.c")],
                Ok(Some("a.b.c")),
            ),
            (
                &[(BEARER, "Bearer a.b.c"), (JWT, "a.b.d")],
                Err(Rejection::TokensDisagree),
            ),
            (
                &[(BEARER, "Bearer a"), (BEARER, "Bearer b")],
                Err(Rejection::TokensDisagree),
            ),
            (&[(JWT, "a"), (JWT, "A")], Err(Rejection::TokensDisagree)),
            // A field isn't split into several tokens; this text fails later, at its verification.
            (&[(BEARER, "Bearer a, Bearer a")], Ok(Some("a, Bearer a"))),
            (&[(JWT, "\u{e9}")], Err(Rejection::Malformed)),
        ] {
            let headers: HeaderMap = fields
                .iter()
                .map(|(name, value)| {
                    let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
                    (HeaderName::from_static(name), value)
                })
                .collect();
            assert_eq!(token_of(&headers), expected, "{fields:?}");
        }
    }
}
