//! The settings of the cleaner.

use std::time::Duration;

use super::values::{CENTURY, ConfigError, SECOND, Values};

/// Parses the time for which tombstones are kept: at least the longest life of a grant.
pub(super) fn keep_tombstones(
    values: &Values,
    refresh_max: Duration,
) -> Result<Duration, ConfigError> {
    values.duration("erasure.keep", refresh_max..=CENTURY)
}

/// Parses the time for which an orphan is kept, a guest whose code was never redeemed.
pub(super) fn keep_orphans(values: &Values) -> Result<Duration, ConfigError> {
    let hour = 3600 * SECOND;
    values.duration("cleaning.orphans", hour..=30 * 24 * hour)
}

/// Parses the time after which a node trusts its clock enough to clean.
pub(super) fn clean_after(values: &Values) -> Result<Duration, ConfigError> {
    let day = 86_400 * SECOND;
    values.duration("cleaning.start_after", Duration::ZERO..=day)
}
