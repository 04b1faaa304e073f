//! Reads what a browser says of a request beside the request itself (Fetch Metadata Request Headers, W3C). What isn't sent
//! by a browser says nothing of the kind, and passes.

use axum::http::header::ORIGIN;
use axum::http::{HeaderMap, HeaderValue};
use guestpass_core::client::Client;
use guestpass_core::refusal::Refusal;

/// Refuses what a browser sends ahead of its use, or without a page that could read the answer: an image, a navigation, a
/// form, a WebSocket, a `no-cors` fetch.
pub(super) fn check(headers: &HeaderMap) -> Result<(), Refusal> {
    check_modes(headers, &["cors", "same-origin"])
}

/// Checks the same where a page may do without the answer, as with `navigator.sendBeacon` when it is left.
pub(super) fn check_or_beacon(headers: &HeaderMap) -> Result<(), Refusal> {
    check_modes(headers, &["cors", "same-origin", "no-cors"])
}

/// Refuses what a browser sends for a page of another site, or ahead of its use.
pub(super) fn check_use_within_site(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut is_ahead = false;
    for (name, value) in headers {
        match name.as_str() {
            "sec-purpose" | "purpose" | "x-purpose" | "x-moz" => is_ahead |= is_ahead_of_use(value),
            SITE if value == "cross-site" => return Err(Refusal::CrossSite),
            _ => {}
        }
    }
    if is_ahead {
        Err(Refusal::Prefetch)
    } else {
        Ok(())
    }
}

/// Looks at each field once: most requests have few, and none of these.
fn check_modes(headers: &HeaderMap, modes: &[&str]) -> Result<(), Refusal> {
    let mut is_readable = true;
    for (name, value) in headers {
        match name.as_str() {
            "sec-purpose" | "purpose" | "x-purpose" | "x-moz" if is_ahead_of_use(value) => {
                return Err(Refusal::Prefetch);
            }
            "sec-fetch-mode" => is_readable &= modes.iter().any(|mode| value == mode),
            "sec-fetch-dest" => is_readable &= value == "empty",
            _ => {}
        }
    }
    if is_readable {
        Ok(())
    } else {
        Err(Refusal::AnswerUnreadable)
    }
}

/// Checks that the page which asks may read the answer: it is of an origin that the client has registered, or of the server's
/// own. A client that has registered none is called by apps and back ends, which may call themselves anything: then it takes a
/// browser to say that another site asks.
pub(super) fn check_origin(headers: &HeaderMap, client: Option<&Client>) -> Result<(), Refusal> {
    // Without a client, nothing will come of it.
    let Some(client) = client else { return Ok(()) };
    let is_known =
        |origin: &HeaderValue| client.origins.iter().any(|known| origin == known.as_str());
    let is_own = || {
        let mut sites = headers.get_all(SITE).iter().peekable();
        match sites.peek() {
            None => client.origins.is_empty(),
            Some(_) => sites.all(|site| site == "same-origin" || site == "none"),
        }
    };
    if headers.get_all(ORIGIN).iter().all(is_known) || is_own() {
        Ok(())
    } else {
        Err(Refusal::AnswerUnreadable)
    }
}

/// Recognises a prefetch, a prerendering or a preview, which browsers have announced in fields of several names: today's,
/// and those of older Chrome, Safari and Firefox.
fn is_ahead_of_use(value: &HeaderValue) -> bool {
    let is_purpose = |text: &str| {
        let purposes = ["prefetch", "prerender", "preview"];
        purposes
            .iter()
            .any(|purpose| text.trim().eq_ignore_ascii_case(purpose))
    };
    let mut parts = value.to_str().unwrap_or_default().split([';', ',', '=']);
    parts.any(is_purpose)
}

const SITE: &str = "sec-fetch-site";
