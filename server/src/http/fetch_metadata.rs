//! Reads what a browser says of a request beside the request itself (Fetch Metadata Request Headers, W3C).

use axum::http::header::ORIGIN;
use axum::http::{HeaderMap, HeaderValue};
use guestpass_core::client::Client;

/// Decides whether a page could read the answer to a request, as far as its browser says so. It couldn't read that to an
/// image, a navigation or a `no-cors` fetch, nor that to a page whose origin `client` hasn't registered. What isn't sent
/// by a browser has none of these headers.
pub(super) fn is_readable(headers: &HeaderMap, client: Option<&Client>) -> bool {
    let all = |name, accepted: &[&str]| {
        let mut values = headers.get_all(name).iter();
        values.all(|value| accepted.iter().any(|accepted| value == accepted))
    };
    let is_known = |origin: &HeaderValue| {
        client.is_none_or(|client| client.origins.iter().any(|known| origin == known.as_str()))
    };
    // Its own origin, a browser names only beside other methods.
    let is_own = !headers.contains_key(SITE) || all(SITE, &["same-origin", "none"]);
    all("sec-fetch-mode", &["cors", "same-origin"])
        && all("sec-fetch-dest", &["empty"])
        && (is_own || headers.get_all(ORIGIN).iter().all(is_known))
}

const SITE: &str = "sec-fetch-site";
