//! What a resource server needs to trust an access token of Guestpass.
//!
//! Build a [`Verifier`] and a [`KeySet`] once. For each request, take the token from the headers and verify it:
//!
//! ```
//! use guestpass_verify::{AccessToken, KeySet, Rejection, Verifier, VerifyingKey, bearer};
//!
//! /// The guest who is calling. `None` if nobody says who they are.
//! fn guest(
//!     headers: &http::HeaderMap,
//!     verifier: &Verifier,
//!     keys: &KeySet,
//!     now: i64,
//! ) -> Result<Option<AccessToken>, Rejection> {
//!     let Some(token) = bearer::token_of(headers)? else {
//!         return Ok(None);
//!     };
//!     verifier.verify(token, keys, now).map(Some)
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let secret = b"at least 32 bytes, best all random";
//! let keys = KeySet::from_iter([VerifyingKey::shared_secret(None, secret)?]);
//! let verifier = Verifier::new("https://id.shop.example");
//!
//! let mut headers = http::HeaderMap::new();
//! assert_eq!(guest(&headers, &verifier, &keys, 1_800_000_000), Ok(None));
//! headers.insert("authorization", "Bearer not.a.token".parse()?);
//! assert_eq!(guest(&headers, &verifier, &keys, 1_800_000_000), Err(Rejection::Malformed));
//! # Ok(())
//! # }
//! ```
//!
//! With the feature `tower`, [`VerifyLayer`] does this for every request; with `fetch`, [`RemoteKeySet`] takes the keys
//! from the issuer and follows their rotation. Both are on by default.
//!
//! ```
//! # #[cfg(all(feature = "fetch", feature = "tower"))]
//! # fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//!
//! use axum::{Extension, Router, routing::get};
//! use guestpass_verify::{AccessToken, RemoteKeySet, Verifier, VerifyLayer};
//!
//! async fn hello(guest: Option<Extension<AccessToken>>) -> String {
//!     guest.map_or("Hello!".into(), |guest| format!("Hello again, {}!", guest.subject))
//! }
//!
//! let keys = RemoteKeySet::new("https://id.shop.example/oauth/jwks", Duration::from_secs(3))?;
//! let layer = VerifyLayer::soft(Verifier::new("https://id.shop.example"), keys);
//! let router: Router = Router::new().route("/", get(hello)).layer(layer);
//! # Ok(())
//! # }
//! ```
//!
//! # Which algorithm
//!
//! With HS256, the default of Guestpass, one secret signs and verifies: **whoever can verify a token can also make
//! one**, for any guest. Give the secret only to back ends that you would let sign. Choose ES256 as soon as anybody
//! else verifies: another team, a gateway, an edge network. Their keys come from the issuer's JWK set and can't sign.
//! `EdDSA` is as good where all parties support it; RS256 is for those that support nothing else, and its tokens are
//! longer.
//!
//! # What it can't see
//!
//! A token is checked against keys and clock alone. A grant that was revoked, or a guest who was erased, stays valid
//! here until the token's `exp`. Who needs to know earlier asks the issuer about each token.
//!
//! # What it refuses
//!
//! The key decides the algorithm, and the header can only agree. Everything has one spelling: three segments of
//! base64url without padding or spare bits, JSON objects without repeated members. `crit`, `b64` and `zip` are refused,
//! keys inside a token are ignored, and no claim is read before the signature is right. The work is bounded: a token of
//! more than 8 KiB isn't looked at.

#![warn(missing_docs)]

pub mod bearer;
mod clock;
mod json;
mod key;
#[cfg(feature = "tower")]
mod layer;
mod rejection;
#[cfg(feature = "fetch")]
mod remote;
mod token;
#[cfg(any(feature = "fetch", feature = "tower"))]
mod unverified;
mod verifier;

pub use clock::system_time;
pub use key::{Algorithm, KeyError, KeySet, VerifyingKey};
#[cfg(feature = "tower")]
pub use layer::{Keys, Verify, VerifyLayer};
pub use rejection::Rejection;
#[cfg(feature = "fetch")]
pub use remote::{FetchError, RemoteKeySet};
#[cfg(any(feature = "fetch", feature = "tower"))]
pub use unverified::Unverified;
pub use verifier::{AccessToken, Verifier};
