//! Reads the time of day, and is the only module that does: everywhere else it is an argument.

use std::time::{SystemTime, UNIX_EPOCH};

/// Returns this machine's time in seconds since the Unix epoch, for [`Verifier::verify`](crate::Verifier::verify).
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
