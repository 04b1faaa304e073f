//! Guest authentication, by an access token (RFC 6750 §2.1).

use axum::http::HeaderMap;
use guestpass_core::refusal::Refusal;
use guestpass_verify::bearer;

use crate::access_tokens::{VerifiedToken, refusal};
use crate::app::App;

/// Verifies the access token of a request, except for revocation.
pub(super) fn verified(app: &App, headers: &HeaderMap) -> Result<VerifiedToken, Refusal> {
    let token = bearer::token_of(headers)
        .map_err(refusal)?
        .ok_or(Refusal::AccessTokenMissing)?;
    app.verify(token)
}
