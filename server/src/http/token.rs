//! `POST /oauth/token`: a code or a refresh token into new tokens (RFC 6749 §4.1.3, §5, §6).

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderMap, Method};
use axum::response::{IntoResponse, Response};
use guestpass_core::client::Client;
use guestpass_core::params::Params;
use guestpass_core::refusal::{Refusal, WireCode};
use guestpass_core::token_request::{PARAMETERS, TokenRequest};

use super::client_auth::Presented;
use super::{Endpoint, body, respond};
use crate::app::App;
use crate::error::Error;
use crate::listen::Deadline;

pub(super) static ENDPOINT: Endpoint = Endpoint {
    path: "/oauth/token",
    method: Method::POST,
    allow: "POST, OPTIONS",
    parameters: PARAMETERS,
    authentication_failure: WireCode::InvalidClient,
};

pub(super) async fn post(State(app): State<Arc<App>>, request: Request) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    let deadline = parts.extensions.get::<Deadline>().copied();
    let body = body::read(&parts.headers, body, deadline).await?;
    let query = parts.uri.query().unwrap_or_default().as_bytes();
    let (source, params) = params(&parts.headers, query, &body)?;
    let presented = Presented::read(&parts.headers, &params)?;
    let client = presented.client(&app);
    let answer = redeem(&app, &presented, client.as_deref(), (source, &params)).await;
    Ok(respond::to(client, answer))
}

async fn redeem(
    app: &App,
    presented: &Presented,
    client: Option<&Client>,
    (source, params): (Source, &Params<'_>),
) -> Result<Response, Error> {
    let client = presented.authenticate(app, client)?;
    if source == Source::Query && !client.query_params {
        return Err(Refusal::QueryParamsDisallowed.into());
    }
    let tokens = app.redeem(client, &TokenRequest::parse(params)?).await?;
    Ok(Json(tokens).into_response())
}

/// Where the parameters came from: one place, never two.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Source {
    Query,
    Body,
}

/// A body that isn't empty is the only source; existing clients send an empty one and everything in the query.
fn params<'a>(
    headers: &HeaderMap,
    query: &'a [u8],
    body: &'a Bytes,
) -> Result<(Source, Params<'a>), Refusal> {
    let from_body = match media_type(headers)? {
        None | Some(MediaType::Form) if body.is_empty() => {
            return Ok((
                Source::Query,
                Params::from_form(ENDPOINT.parameters, query)?,
            ));
        }
        None => return Err(Refusal::MediaTypeUnsupported),
        Some(MediaType::Form) => Params::from_form(ENDPOINT.parameters, body)?,
        Some(MediaType::Json) => Params::from_json(ENDPOINT.parameters, body)?,
    };
    match Params::named_in(ENDPOINT.parameters, query) {
        Some(name) => Err(Refusal::ParameterInQuery(name)),
        None => Ok((Source::Body, from_body)),
    }
}

enum MediaType {
    Form,
    Json,
}

/// `None` if the request names none.
fn media_type(headers: &HeaderMap) -> Result<Option<MediaType>, Refusal> {
    let mut codings = headers.get_all(CONTENT_ENCODING).iter();
    if codings.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(Refusal::MediaTypeUnsupported);
    }
    let mut fields = headers.get_all(CONTENT_TYPE).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else {
        return if headers.contains_key(CONTENT_TYPE) {
            Err(Refusal::MediaTypeUnsupported)
        } else {
            Ok(None)
        };
    };
    let field = field.to_str().map_err(|_| Refusal::MediaTypeUnsupported)?;
    let mut parts = field.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    let utf8 = parts
        .filter_map(|parameter| parameter.split_once('='))
        .all(|(name, value)| {
            !name.eq_ignore_ascii_case("charset")
                || value.trim_matches('"').eq_ignore_ascii_case("utf-8")
        });
    if !utf8 {
        Err(Refusal::MediaTypeUnsupported)
    } else if essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        Ok(Some(MediaType::Form))
    } else if essence.eq_ignore_ascii_case("application/json") {
        Ok(Some(MediaType::Json))
    } else {
        Err(Refusal::MediaTypeUnsupported)
    }
}
