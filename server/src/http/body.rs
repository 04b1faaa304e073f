//! Reading a request's body: all of it, in time, and no more than will be used.

use axum::body::Body;
use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_LENGTH;
use guestpass_core::refusal::Refusal;
use http_body_util::{BodyExt, LengthLimitError, Limited};

use crate::listen::Deadline;

/// The longest body that any endpoint reads.
const MAX_BYTES: usize = 16 * 1024;

pub(super) async fn read(
    headers: &HeaderMap,
    body: Body,
    deadline: Option<Deadline>,
) -> Result<Bytes, Refusal> {
    // Hyper has made sure that there is at most one, and a number.
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > MAX_BYTES as u64) {
        return Err(Refusal::BodyTooLong);
    }
    let collected = Limited::new(body, MAX_BYTES).collect();
    let collected = match deadline {
        Some(Deadline { arrival, .. }) => tokio::time::timeout_at(arrival, collected)
            .await
            .map_err(|_| Refusal::BodyTooSlow)?,
        None => collected.await,
    };
    match collected {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Refusal::BodyTooLong),
        // Broken chunks, or a connection that ended early.
        Err(_) => Err(Refusal::RequestMalformed),
    }
}
