//! Where a request carries its token: `Authorization: Bearer` (RFC 6750 §2.1), or `x-dressipi-jwt` as existing clients
//! of the API send it.

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::rejection::Rejection;

/// The header of existing clients.
pub const USER_JWT: HeaderName = HeaderName::from_static("x-dressipi-jwt");

/// The token of a request. `None` if it has none: neither header, another scheme such as Basic, or an empty value,
/// since `Bearer` with nothing behind it says nothing about who is calling. The same token may come more than once.
///
/// # Errors
/// [`Rejection::TokensDisagree`] for two different tokens, [`Rejection::Malformed`] for one that isn't ASCII text.
pub fn token_of(headers: &HeaderMap) -> Result<Option<&str>, Rejection> {
    let authorizations = headers
        .get_all(AUTHORIZATION)
        .iter()
        .filter_map(behind_bearer);
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

/// What stands behind the scheme, whose letters may be of either case (RFC 9110 §11.1). `None` for another scheme.
fn behind_bearer(field: &HeaderValue) -> Option<&[u8]> {
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
            // One field is one token, whatever it holds: not one that verifies.
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
