//! What can keep a token from being verified where the keys come from elsewhere.

use std::fmt;

use crate::rejection::Rejection;

/// Why a token isn't verified.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unverified {
    /// The token can't be trusted.
    Rejected(Rejection),
    /// No keys of the issuer could be fetched yet, which says nothing about the token.
    KeysUnavailable,
}

impl Unverified {
    /// The stable name, for logs and metrics.
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
            Self::KeysUnavailable => f.write_str("no keys of the issuer could be fetched yet"),
        }
    }
}

impl std::error::Error for Unverified {}
