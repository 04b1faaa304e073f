//! What others' trust in tokens depends on: the life of keys, and how `/oauth/verify` trusts.

use std::time::Duration;

use super::choices;
use super::values::{ConfigError, Values};
use guestpass_verify::Verifier;

use crate::keys::{KeyAlgorithm, Schedule};

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

pub(super) fn schedule(values: &Values) -> Result<Schedule, ConfigError> {
    Ok(Schedule {
        algorithm: values.one("tokens.algorithm", |text| {
            KeyAlgorithm::SIGNING
                .into_iter()
                .find(|algorithm| algorithm.name() == text)
                .ok_or_else(|| "write HS256, ES256, EdDSA or RS256".to_owned())
        })?,
        jwks_max_age: duration(values, "keys.jwks_max_age", (SECOND, 86_400 * SECOND))?,
        rotate_every: match values.text("keys.rotate_every") {
            "off" => None,
            _ => Some(duration(
                values,
                "keys.rotate_every",
                (3600 * SECOND, CENTURY),
            )?),
        },
    })
}

pub(super) fn verification(values: &Values) -> Result<Verification, ConfigError> {
    Ok(Verification {
        max_staleness: duration(values, "verify.max_staleness", (2 * SECOND, 3600 * SECOND))?,
        signature_only_when_stale: values.one("verify.when_stale", |text| match text {
            "refuse" => Ok(false),
            "signature-only" => Ok(true),
            _ => Err("write refuse or signature-only".to_owned()),
        })?,
        untyped: values.one("verify.untyped", choices::yes_or_no)?,
    })
}

/// How long tombstones are kept: at least as long as a grant can live.
pub(super) fn keep_tombstones(
    values: &Values,
    refresh_max: Duration,
) -> Result<Duration, ConfigError> {
    duration(values, "erasure.keep", (refresh_max, CENTURY))
}

/// How long after its start a node trusts its clock enough to clean.
pub(super) fn clean_after(values: &Values) -> Result<Duration, ConfigError> {
    let day = 86_400 * SECOND;
    duration(values, "cleaning.start_after", (Duration::ZERO, day))
}

/// A duration between two others.
fn duration(
    values: &Values,
    name: &'static str,
    (shortest, longest): (Duration, Duration),
) -> Result<Duration, ConfigError> {
    values.one(name, |text| {
        let value = humantime::parse_duration(text)
            .map_err(|_| "write a duration such as 2s, 10m, 24h or 365d".to_owned())?;
        if value < shortest || value > longest {
            let (shortest, longest) = (
                humantime::format_duration(shortest),
                humantime::format_duration(longest),
            );
            return Err(format!("it must lie between {shortest} and {longest}"));
        }
        Ok(value)
    })
}

const SECOND: Duration = Duration::from_secs(1);
const CENTURY: Duration = Duration::from_secs(100 * 31_557_600);
