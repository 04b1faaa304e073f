//! What the cleaner keeps, and when it begins.

use std::time::Duration;

use super::values::{CENTURY, ConfigError, SECOND, Values};

/// How long tombstones are kept: at least as long as a grant can live.
pub(super) fn keep_tombstones(
    values: &Values,
    refresh_max: Duration,
) -> Result<Duration, ConfigError> {
    values.duration("erasure.keep", refresh_max..=CENTURY)
}

/// How long after its start a node trusts its clock enough to clean.
pub(super) fn clean_after(values: &Values) -> Result<Duration, ConfigError> {
    let day = 86_400 * SECOND;
    values.duration("cleaning.start_after", Duration::ZERO..=day)
}
