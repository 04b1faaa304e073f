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

fn check_modes(headers: &HeaderMap, modes: &[&str]) -> Result<(), Refusal> {
    if is_ahead_of_use(headers) {
        Err(Refusal::Prefetch)
    } else if all(headers, "sec-fetch-mode", modes) && all(headers, "sec-fetch-dest", &["empty"]) {
        Ok(())
    } else {
        Err(Refusal::AnswerUnreadable)
    }
}

/// Checks that the page which asks may read the answer: it is of the server's own origin, or of one that `client` has
/// registered.
pub(super) fn check_origin(headers: &HeaderMap, client: Option<&Client>) -> Result<(), Refusal> {
    let is_known = |origin: &HeaderValue| {
        client.is_none_or(|client| client.origins.iter().any(|known| origin == known.as_str()))
    };
    // Its own origin, a browser names only beside other methods.
    let is_own = !headers.contains_key(SITE) || all(headers, SITE, &["same-origin", "none"]);
    if is_own || headers.get_all(ORIGIN).iter().all(is_known) {
        Ok(())
    } else {
        Err(Refusal::AnswerUnreadable)
    }
}

fn all(headers: &HeaderMap, name: &str, accepted: &[&str]) -> bool {
    let mut values = headers.get_all(name).iter();
    values.all(|value| accepted.iter().any(|accepted| value == accepted))
}

/// Recognises a prefetch, a prerendering or a preview, by the names that browsers have given it: today's, and those of
/// older Chrome, Safari and Firefox.
fn is_ahead_of_use(headers: &HeaderMap) -> bool {
    let is_purpose = |text: &str| {
        let purposes = ["prefetch", "prerender", "preview"];
        purposes
            .iter()
            .any(|purpose| text.trim().eq_ignore_ascii_case(purpose))
    };
    ["sec-purpose", "purpose", "x-purpose", "x-moz"]
        .into_iter()
        .flat_map(|name| headers.get_all(name))
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.split([';', ',', '=']).any(is_purpose))
}

const SITE: &str = "sec-fetch-site";
