//! Checks that a request is bounded and unambiguous before anything else reads it.

use axum::extract::Request;
use axum::http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Version};
use guestpass_core::limits::{MAX_FIELD_BYTES, MAX_FIELDS, MAX_HEADER_BYTES, MAX_TARGET_BYTES};
use guestpass_core::params::Params;
use guestpass_core::refusal::Refusal;

use super::endpoint::Endpoint;

/// Checks the framing and the host, then the size of the target and the header. The order matters: only a refusal of
/// the framing closes the connection, while every other answer relies on this request's end to find the next one. Last
/// comes the query, where no handler reads it.
pub(super) fn check(request: &Request, endpoint: Option<&Endpoint>) -> Result<(), Refusal> {
    let headers = request.headers();
    if !framing_is_clear(headers) || !host_is_clear(request) {
        return Err(Refusal::RequestMalformed);
    }
    let target = request.uri();
    // RFC 9112 §3.2.2: a target may also name the host.
    let host = target.authority().map_or("", Authority::as_str);
    let query_bytes = target.query().map_or(0, |query| query.len() + 1);
    if host.len() + target.path().len() + query_bytes > MAX_TARGET_BYTES {
        return Err(Refusal::TargetTooLong);
    }
    let (mut count, mut bytes) = (0, 0);
    for (name, value) in headers {
        count += 1;
        bytes += name.as_str().len() + ": \r\n".len() + value.len();
        if count > MAX_FIELDS || bytes > MAX_HEADER_BYTES || value.len() > MAX_FIELD_BYTES {
            return Err(Refusal::HeadersTooLong);
        }
    }
    match (endpoint, target.query()) {
        (Some(Endpoint { parameters: [], .. }), Some(query)) => Params::check_absent(&[], query),
        _ => Ok(()),
    }
}

/// Prevents request smuggling (RFC 9112 §11.2): a proxy in front may disagree about where an ambiguous request ends, so
/// only framing that can be read in one way is accepted.
fn framing_is_clear(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(coding), None) => {
            coding.as_bytes().eq_ignore_ascii_case(b"chunked")
                && !headers.contains_key(CONTENT_LENGTH)
        }
        (Some(_), Some(_)) => false,
    }
}

/// Accepts exactly one `Host` field that is syntactically a host (RFC 9112 §3.2), or with HTTP/2 none.
fn host_is_clear(request: &Request) -> bool {
    let mut hosts = request.headers().get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        // With HTTP/2 the target names it (RFC 9113 §8.3.1).
        (None, _) => {
            request.version() < Version::HTTP_11
                || (request.version() == Version::HTTP_2 && request.uri().authority().is_some())
        }
        (Some(host), None) => {
            let allowed =
                |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%:[]".contains(&byte);
            host.as_bytes().iter().all(|&byte| allowed(byte))
        }
        (Some(_), Some(_)) => false,
    }
}
