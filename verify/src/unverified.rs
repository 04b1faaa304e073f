//! Combines the rejection of a token with the failure to fetch the keys for it.

use std::fmt;

use crate::rejection::Rejection;

/// The reason why a request has no verified token, where the keys are fetched from the issuer.
///
/// [`RemoteKeySet::verify`](crate::RemoteKeySet::verify) returns it, and [`VerifyLayer`](crate::VerifyLayer) puts it
/// into the extensions of a request or response, for your log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unverified {
    /// The token is rejected: answer 401.
    Rejected(Rejection),
    /// No keys of the issuer could be fetched yet, or none for so long that the last ones are no longer trusted. Nothing
    /// is known about the token: answer 503. [`RemoteKeySet::last_error`](crate::RemoteKeySet::last_error) has the cause.
    KeysUnavailable,
}

impl Unverified {
    /// Returns the stable name, for logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rejected(rejection) => rejection.name(),
            Self::KeysUnavailable => "keys_unavailable",
        }
    }
}

impl From<Rejection> for Unverified {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

impl fmt::Display for Unverified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(rejection) => rejection.fmt(f),
            Self::KeysUnavailable => {
                f.write_str("no keys of the issuer could be fetched, or none for too long")
            }
        }
    }
}

impl std::error::Error for Unverified {}
