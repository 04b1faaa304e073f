//! Verifies access tokens of Guestpass in a resource server: offline, without asking the issuer about each token.
//!
//! # With tower
//!
//! [`VerifyLayer`] is middleware for tower services such as axum's and tonic's. It verifies the token of each request
//! and puts the [`AccessToken`] into the request's extensions. [`RemoteKeySet`] fetches the issuer's public keys and
//! follows their rotation.
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
//! # Without tower
//!
//! Build a [`Verifier`] and a [`KeySet`] (or a [`RemoteKeySet`]) once. For each request, take the token from the
//! headers with [`bearer::token_of`] and verify it. The time is an argument; [`system_time`] returns that of this
//! machine.
//!
//! ```
//! use guestpass_verify::{AccessToken, KeySet, Rejection, Verifier, VerifyingKey, bearer};
//!
//! /// Returns the guest who is calling, or `None` if the request carries no token.
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
//!
//! let token = concat!(
//!     "eyJhbGciOiJIUzI1NiIsInR5cCI6ImF0K2p3dCJ9.",
//!     "eyJpc3MiOiJodHRwczovL2lkLnNob3AuZXhhbXBsZSIsInN1YiI6Ijk0MTczIiwiYXVkIjoiaHR0cHM6Ly9pZC5zaG9wLmV",
//!     "4YW1wbGUiLCJjbGllbnRfaWQiOiJzaG9wIiwiaWF0IjoxODAwMDAwMDAwLCJleHAiOjE4MDAwMDM2MDAsImp0aSI6IjEifQ.",
//!     "k-Jski_jeLPcIkyanEAP6_2IYDVZv6IH5P_zSKHLpdw",
//! );
//! headers.insert("authorization", format!("Bearer {token}").parse()?);
//! let caller = guest(&headers, &verifier, &keys, 1_800_000_000)?.expect("there is a token");
//! assert_eq!(caller.subject, "94173");
//! assert_eq!(guest(&headers, &verifier, &keys, 1_900_000_000), Err(Rejection::Expired));
//! # Ok(())
//! # }
//! ```
//!
//! # Crate features
//!
//! Both are on by default.
//!
//! - `tower`: [`VerifyLayer`].
//! - `fetch`: [`RemoteKeySet`], an HTTPS client that needs a tokio runtime.
//!
//! # Choosing an algorithm
//!
//! With HS256, the default of Guestpass, one secret signs and verifies: **whoever can verify a token can also make
//! one**, for any guest. Give the secret only to back ends that you would let sign. Choose ES256 as soon as anybody
//! else verifies: another team, a gateway, an edge network. They use the public keys of the issuer's JWK set, which
//! can't sign. `EdDSA` is as good where all parties support it; RS256 is for those that support nothing else, and its
//! tokens are longer.
//!
//! # Limits of offline verification
//!
//! A token is checked against keys and clock alone. The token of a revoked grant or an erased guest remains valid here
//! until its `exp`. Services that must know earlier ask the issuer about each token, by introspection (RFC 7662).
//!
//! A key that has leaked, and that the issuer has removed, remains trusted here until the key set is fetched again: by
//! [`RemoteKeySet`] within an hour, or while fetching fails within a day or what [`RemoteKeySet::trust_for`] says. A
//! [`KeySet`] that you have made yourself is trusted for as long as you use it. After a restart the set is fetched anew.
//!
//! # Hardening
//!
//! The key decides the algorithm, and the header can only agree (RFC 8725 §3.1). Each token has exactly one valid
//! spelling: three segments of base64url without padding or spare bits, and JSON objects without repeated members.
//! `crit`, `b64` and `zip` are refused, keys inside a token are ignored, and no claim is read before the signature is
//! verified. The work is bounded: a token of more than 8 KiB is rejected unread.

#![warn(missing_docs)]

mod attribute;
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

pub use attribute::Attribute;
pub use clock::system_time;
pub use key::{Algorithm, KeyError, KeySet, VerifyingKey};
#[cfg(feature = "tower")]
pub use layer::{KeySource, Verify, VerifyLayer};
pub use rejection::Rejection;
#[cfg(feature = "fetch")]
pub use remote::{FetchError, RemoteKeySet};
#[cfg(any(feature = "fetch", feature = "tower"))]
pub use unverified::Unverified;
pub use verifier::{AccessToken, Verifier};
