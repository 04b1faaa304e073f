//! `GET /oauth/authorize`: a new guest, and the code for it (RFC 6749 §4.1.1, without the redirect).

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use guestpass_core::authorize::{AuthorizeRequest, PARAMETERS};
use guestpass_core::client::Client;
use guestpass_core::params::Params;
use guestpass_core::refusal::{Refusal, WireCode};
use guestpass_verify::bearer;
use serde::Serialize;

use super::client_auth::Presented;
use super::{Caller, Endpoint, respond};
use crate::app::App;
use crate::error::Error;

pub(super) static ENDPOINT: Endpoint = Endpoint {
    path: "/oauth/authorize",
    allow: "GET, OPTIONS",
    parameters: PARAMETERS,
    caller: Caller::Client(WireCode::UnauthorizedClient),
};

#[derive(Serialize)]
struct Answer<'a> {
    code: String,
    state: &'a str,
}

pub(super) async fn get(State(app): State<Arc<App>>, request: Request) -> Result<Response, Error> {
    let headers = request.headers();
    if is_prefetch(headers) {
        return Err(Refusal::Prefetch.into());
    }
    let query = request.uri().query().unwrap_or_default();
    let params = Params::from_form(ENDPOINT.parameters, query.as_bytes())?;
    let presented = Presented::read(headers, &params)?;
    let client = presented.client(&app);
    // A token that is none doesn't matter here.
    let token = bearer::token_of(headers).unwrap_or_default();
    let answer = authorize(&app, (&presented, client.as_deref()), token, &params).await;
    Ok(respond::to(client, answer))
}

async fn authorize(
    app: &App,
    (presented, client): (&Presented, Option<&Client>),
    token: Option<&str>,
    params: &Params<'_>,
) -> Result<Response, Error> {
    let client = presented.authenticate(app, client)?;
    let request = AuthorizeRequest::parse(params)?;
    let resumed = match app.resumable(client, token).await? {
        Some(grant) => app.resume(client, &grant, &request).await?,
        None => None,
    };
    let code = match resumed {
        Some(code) => code,
        None => app.authorize(client, &request).await?,
    };
    Ok(Json(Answer {
        code,
        state: request.state,
    })
    .into_response())
}

/// A browser that loads ahead would create guests nobody asked for: GET is not safe here.
fn is_prefetch(headers: &HeaderMap) -> bool {
    ["sec-purpose", "purpose"]
        .into_iter()
        .flat_map(|name| headers.get_all(name))
        .any(|value| {
            value.to_str().is_ok_and(|value| {
                value
                    .split([';', ','])
                    .any(|purpose| purpose.trim().eq_ignore_ascii_case("prefetch"))
            })
        })
}
