//! Guest authentication, by an access token (RFC 6750 §2.1).

use axum::http::HeaderMap;
use guestpass_core::refusal::Refusal;
use guestpass_verify::bearer;

use crate::access_tokens::refusal;

/// Takes the access token out of a request. It isn't verified yet.
pub(super) fn token(headers: &HeaderMap) -> Result<&str, Refusal> {
    bearer::token_of(headers)
        .map_err(refusal)?
        .ok_or(Refusal::AccessTokenMissing)
}
