//! Reads the body of a request, within a deadline and a limit, and the parameters in it.

use axum::body::Body;
use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use guestpass_core::client::CLIENT_SECRET;
use guestpass_core::limits::MAX_BODY_BYTES;
use guestpass_core::params::{Parameter, Params};
use guestpass_core::refusal::Refusal;
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::charset;
use crate::listen::Deadline;

/// Reads the whole body. A body that is announced or found to be too long, or is late, is refused without reading the
/// rest.
pub(super) async fn read(
    headers: &HeaderMap,
    body: Body,
    deadline: Option<Deadline>,
) -> Result<Bytes, Refusal> {
    // Hyper has checked that there is at most one, and that it is a number.
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > MAX_BODY_BYTES as u64) {
        return Err(Refusal::BodyTooLong);
    }
    let collected = Limited::new(body, MAX_BODY_BYTES).collect();
    let collected = match deadline {
        Some(Deadline { arrival, .. }) => tokio::time::timeout_at(arrival, collected)
            .await
            .map_err(|_| Refusal::BodyTooSlow)?,
        None => collected.await,
    };
    match collected {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Refusal::BodyTooLong),
        // The chunks are broken, or the connection ended early.
        Err(_) => Err(Refusal::RequestMalformed),
    }
}

/// Tells from which of the two places the parameters came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Source {
    Query,
    Body,
}

/// Reads the parameters from the body, or from the query if the body is empty, as existing clients send them. With a
/// body, a parameter in the query is refused; a client's secret there always is (RFC 6749 §2.3.1), for queries end up in
/// logs.
pub(super) fn params<'a>(
    table: &'static [Parameter],
    headers: &HeaderMap,
    query: &'a str,
    body: &'a Bytes,
) -> Result<(Source, Params<'a>), Refusal> {
    Params::check_lacks(query, CLIENT_SECRET.name)?;
    // Nothing has no type, whatever the header says of it (RFC 9110 §8.3).
    if body.is_empty() {
        return Ok((Source::Query, Params::from_form(table, query.as_bytes())?));
    }
    let from_body = match media_type(headers, body)? {
        MediaType::Form => Params::from_form(table, body)?,
        MediaType::Json => Params::from_json(table, body)?,
    };
    Params::check_absent(table, query)?;
    Ok((Source::Body, from_body))
}

/// Reads the parameters from the body alone. In the query they are refused, because a query ends up in logs.
pub(super) fn params_in_body<'a>(
    table: &'static [Parameter],
    headers: &HeaderMap,
    query: &'a str,
    body: &'a Bytes,
) -> Result<Params<'a>, Refusal> {
    match params(table, headers, query, body)? {
        (Source::Body, params) => Ok(params),
        (Source::Query, params) => {
            Params::check_absent(table, query)?;
            Ok(params)
        }
    }
}

enum MediaType {
    Form,
    Json,
}

/// Reads the media type, and checks the content coding and the charset.
fn media_type(headers: &HeaderMap, body: &[u8]) -> Result<MediaType, Refusal> {
    let mut codings = headers.get_all(CONTENT_ENCODING).iter();
    if codings.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(Refusal::MediaTypeUnsupported);
    }
    let mut fields = headers.get_all(CONTENT_TYPE).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else {
        return Err(Refusal::MediaTypeUnsupported);
    };
    let field = field.to_str().map_err(|_| Refusal::MediaTypeUnsupported)?;
    let mut parts = field.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    let is_readable = parts
        .filter_map(|parameter| parameter.split_once('='))
        .filter(|(name, _)| name.trim().eq_ignore_ascii_case("charset"))
        .all(|(_, label)| charset::is_readable(label, body));
    if !is_readable {
        Err(Refusal::MediaTypeUnsupported)
    } else if essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        Ok(MediaType::Form)
    } else if essence.eq_ignore_ascii_case("application/json") {
        Ok(MediaType::Json)
    } else {
        Err(Refusal::MediaTypeUnsupported)
    }
}
