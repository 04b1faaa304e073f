//! Requests of a back end about the guest of an access token that it holds.

use axum::extract::Request;
use axum::response::Response;
use guestpass_core::client::Client;
use guestpass_core::params::Params;
use guestpass_core::refusal::Refusal;

use super::client_auth::Presented;
use super::endpoint::Endpoint;
use super::{body, respond};
use crate::app::App;
use crate::error::Error;
use crate::listen::Deadline;

/// Answers a request once its client is known, which must show who it is.
pub(super) async fn answer(
    app: &App,
    endpoint: &Endpoint,
    request: Request,
    act: impl AsyncFnOnce(&Client, &Params<'_>) -> Result<Response, Error>,
) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    let deadline = parts.extensions.get::<Deadline>().copied();
    let body = body::read(&parts.headers, body, deadline).await?;
    let query = parts.uri.query().unwrap_or_default();
    let params = body::params_in_body(endpoint.parameters, &parts.headers, query, &body)?;
    let presented =
        Presented::read_if_any(&parts.headers, &params)?.ok_or(Refusal::ApiKeyMissing)?;
    let client = presented.client(app);
    let answered = async {
        let client = presented.authenticate(app, client.as_deref())?;
        act(client, &params).await
    };
    let answered = answered.await;
    Ok(respond::to(client, answered))
}
