//! The settings of `/oauth/verify`.

use std::time::Duration;

use guestpass_core::choice;
use guestpass_verify::Verifier;

use super::values::{ConfigError, SECOND, Values};
use crate::timing::MIN_STALENESS;

/// The settings of `/oauth/verify`.
#[derive(Clone, Debug)]
pub struct Verification {
    /// The greatest age of the revocation filter before it counts as stale.
    pub max_staleness: Duration,
    /// Accepts a token by its signature alone while the filter is stale, instead of answering 503.
    pub signature_only_when_stale: bool,
    /// Accepts tokens without a `typ`, as an earlier issuer made them.
    pub untyped: bool,
}

impl Verification {
    /// Makes a verifier for access tokens of that issuer. Of their audience it accepts any: which are meant for the issuer
    /// is decided by the client, in `access_tokens.rs`.
    #[must_use]
    pub fn verifier(&self, issuer: &str) -> Verifier {
        let verifier = Verifier::new(issuer).any_audience();
        if self.untyped {
            verifier.accept_untyped()
        } else {
            verifier
        }
    }
}

pub(super) fn verification(values: &Values) -> Result<Verification, ConfigError> {
    Ok(Verification {
        max_staleness: values.duration("verify.max_staleness", MIN_STALENESS..=3600 * SECOND)?,
        signature_only_when_stale: values.one("verify.when_stale", |text| match text {
            "refuse" => Ok(false),
            "signature-only" => Ok(true),
            _ => Err("write refuse or signature-only".to_owned()),
        })?,
        untyped: values.one("verify.untyped", choice::yes_or_no)?,
    })
}
