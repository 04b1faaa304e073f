//! A resource server's part in Rust, as docs/verifying.md shows it.

use std::time::Duration;

use axum::http::HeaderMap;
use axum::routing::get;
use axum::{Extension, Router};
use guestpass_verify::{
    AccessToken, FetchError, RemoteKeySet, Unverified, Verifier, VerifyLayer, bearer, system_time,
};

/// Once. `jwks_uri` is what the server's metadata says. The keys are fetched when they are first needed, and followed.
pub(crate) fn trust(issuer: &str, jwks_uri: &str) -> Result<(Verifier, RemoteKeySet), FetchError> {
    let keys = RemoteKeySet::new(jwks_uri, Duration::from_secs(3))?;
    Ok((Verifier::new(issuer), keys)) // .audience("…") of your own service, if it has one
}

/// For each request: who is calling, if they say so.
pub(crate) async fn guest(
    headers: &HeaderMap,
    verifier: &Verifier,
    keys: &RemoteKeySet,
) -> Result<Option<AccessToken>, Unverified> {
    let Some(token) = bearer::token_of(headers)? else {
        return Ok(None);
    };
    keys.verify(verifier, token, system_time()).await.map(Some)
}

/// Or for all requests, with tower: strict answers 401 without a good token, soft lets everyone in.
pub(crate) fn router(verifier: &Verifier, keys: &RemoteKeySet) -> Router {
    let strict = VerifyLayer::strict(verifier.clone(), keys.clone());
    let soft = VerifyLayer::soft(verifier.clone(), keys.clone());
    let account = Router::new().route("/account", get(account)).layer(strict);
    account.merge(Router::new().route("/", get(home)).layer(soft))
}

async fn account(Extension(guest): Extension<AccessToken>) -> String {
    format!("the account of {}", guest.subject)
}

async fn home(guest: Option<Extension<AccessToken>>) -> String {
    guest.map_or("hello".to_owned(), |guest| {
        format!("hello, {}", guest.subject)
    })
}
