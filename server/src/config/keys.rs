//! The settings of key rotation.

use super::values::{CENTURY, ConfigError, SECOND, Values};
use crate::keys::{KeyAlgorithm, Schedule};

pub(super) fn schedule(values: &Values) -> Result<Schedule, ConfigError> {
    Ok(Schedule {
        algorithm: values.one("tokens.algorithm", |text| {
            KeyAlgorithm::SIGNING
                .into_iter()
                .find(|algorithm| algorithm.name() == text)
                .ok_or_else(|| "write HS256, ES256, EdDSA or RS256".to_owned())
        })?,
        jwks_max_age: values.duration("keys.jwks_max_age", SECOND..=86_400 * SECOND)?,
        rotate_every: match values.text("keys.rotate_every") {
            "off" => None,
            _ => Some(values.duration("keys.rotate_every", 3600 * SECOND..=CENTURY)?),
        },
    })
}
