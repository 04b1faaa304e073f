//! The cookies of a page's client in requests and answers, and the checks of a page that uses them.

use std::time::Duration;

use axum::http::header::{COOKIE, ORIGIN, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use guestpass_core::client::Client;
use guestpass_core::cookies::{self, Cookie, Found, Naming, SEED_TTL};
use guestpass_core::refusal::Refusal;

use super::fetch_metadata;
use crate::error::Error;
use crate::sessions::{Jar, Session};

/// Checks that the request comes from a page of this client, on the server's site, and is made for use. Browsers send `Origin`
/// with every POST, and would store the cookies that answer a form of a foreign page.
pub(super) fn check_page(headers: &HeaderMap, client: &Client) -> Result<(), Refusal> {
    match PageOrigin::of(headers, client) {
        PageOrigin::Absent | PageOrigin::Null => return Err(Refusal::OriginMissing),
        PageOrigin::Foreign => return Err(Refusal::OriginForeign),
        PageOrigin::Own => {}
    }
    fetch_metadata::check_use_within_site(headers)
}

/// Tells from which page a request says to come (Fetch standard, `Origin`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum PageOrigin {
    /// It says nothing.
    Absent,
    /// From one that the browser doesn't name.
    Null,
    /// From the client's.
    Own,
    /// From another one.
    Foreign,
}

impl PageOrigin {
    pub(super) fn of(headers: &HeaderMap, client: &Client) -> Self {
        let mut origins = headers.get_all(ORIGIN).iter().map(HeaderValue::as_bytes);
        match origins.next() {
            None => Self::Absent,
            Some(b"null") => Self::Null,
            Some(first)
                if client.has_origin(first) && origins.all(|other| client.has_origin(other)) =>
            {
                Self::Own
            }
            Some(_) => Self::Foreign,
        }
    }
}

/// Reads the cookies of a request whose session ends: of two values, none.
pub(super) fn last_jar<'a>(naming: Naming<'_>, headers: &'a HeaderMap) -> Jar<'a> {
    let find = |cookie| find(naming, cookie, headers).unwrap_or(None);
    Jar {
        access_token: find(Cookie::AccessToken),
        refresh_token: find(Cookie::RefreshToken),
        seed: None,
    }
}

/// Reads the cookies of a request.
pub(super) fn jar<'a>(naming: Naming<'_>, headers: &'a HeaderMap) -> Result<Jar<'a>, Refusal> {
    Ok(Jar {
        // Of two, none: whoever is here says so by the refresh token.
        access_token: find(naming, Cookie::AccessToken, headers).unwrap_or(None),
        refresh_token: find(naming, Cookie::RefreshToken, headers)?,
        seed: find(naming, Cookie::Seed, headers)?,
    })
}

/// Reads a cookie. One that isn't text is read as empty: no token is.
pub(super) fn find<'a>(
    naming: Naming<'_>,
    cookie: Cookie,
    headers: &'a HeaderMap,
) -> Result<Option<&'a str>, Refusal> {
    let fields = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    match cookies::find(fields, &naming.name_of(cookie)) {
        Found::Absent => Ok(None),
        Found::Value(value) => Ok(Some(str::from_utf8(value).unwrap_or_default())),
        Found::Different => Err(Refusal::CookiesDisagree),
    }
}

/// Sets the cookies that a session needs.
pub(super) fn set(
    naming: Naming<'_>,
    session: &Session,
    response: &mut Response,
) -> Result<(), Error> {
    match session {
        Session::Current { .. } => Ok(()),
        Session::Again(seed) => append(response, naming.set(Cookie::Seed, seed, SEED_TTL)),
        Session::Kept { tokens, is_new } => {
            let left = tokens.refresh_ends_at.since(tokens.issued_at);
            let age = cookies::refresh_max_age(left);
            append(
                response,
                naming.set(Cookie::RefreshToken, &tokens.refresh_token, age),
            )?;
            let age = Duration::from_secs(tokens.expires_in.unsigned_abs());
            let age = cookies::access_max_age(age);
            append(
                response,
                naming.set(Cookie::AccessToken, &tokens.access_token, age),
            )?;
            match is_new {
                true => append(response, naming.clear(Cookie::Seed)),
                false => Ok(()),
            }
        }
    }
}

/// Deletes all cookies of the client.
pub(super) fn clear(naming: Naming<'_>, response: &mut Response) -> Result<(), Error> {
    for cookie in [Cookie::RefreshToken, Cookie::AccessToken, Cookie::Seed] {
        append(response, naming.clear(cookie))?;
    }
    Ok(())
}

/// Appends a field, which never fails: names and tokens are of letters that a header may have.
fn append(response: &mut Response, cookie: String) -> Result<(), Error> {
    let value =
        HeaderValue::try_from(cookie).map_err(|error| Error::Internal(error.to_string()))?;
    response.headers_mut().append(SET_COOKIE, value);
    Ok(())
}
