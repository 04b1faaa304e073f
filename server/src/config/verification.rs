//! How `/oauth/verify` trusts.

use std::time::Duration;

use guestpass_core::choice;
use guestpass_verify::Verifier;

use super::values::{ConfigError, SECOND, Values};
use crate::timing::MIN_STALENESS;

/// How `/oauth/verify` trusts.
#[derive(Clone, Debug)]
pub struct Verification {
    /// How old what is known of revocations may be.
    pub max_staleness: Duration,
    /// Whether a token is good by its signature alone when it is older; else nobody is told anything.
    pub signature_only_when_stale: bool,
    /// Whether a token may leave its type open, as those of an earlier issuer do.
    pub untyped: bool,
}

impl Verification {
    /// What is asked of an access token of that issuer.
    #[must_use]
    pub fn verifier(&self, issuer: &str) -> Verifier {
        let verifier = Verifier::new(issuer);
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
