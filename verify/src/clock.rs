//! The one place that reads the time. All else is given it.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since the Unix epoch, by this machine's clock.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "a resource server has no clock to inject; its tests give the time themselves"
)]
pub fn system_time() -> i64 {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX)
}
