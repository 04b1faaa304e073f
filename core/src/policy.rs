//! Lifetimes and choices that the rules of a grant depend on.

use std::time::Duration;

/// What the operator has chosen for codes and tokens. The settings `tokens.…` of the configuration.
#[derive(Clone, Debug)]
pub struct Policy {
    /// How long an access token is valid: `exp - iat`, in whole seconds.
    pub access_ttl: Duration,
    /// How long a code can be redeemed. At most [`MAX_CODE_TTL`].
    pub code_ttl: Duration,
    /// How long after a refresh its predecessor gets the same answer again. Zero requires [`LateRetry::Revoke`].
    pub grace: Duration,
    /// What a predecessor gets after the grace window, while its successor is unused.
    pub late_retry: LateRetry,
    /// How many times in a row a late retry is reissued before two parties are assumed.
    pub max_unproven: u64,
    /// How long a refresh token works when it isn't used.
    pub refresh_idle: Duration,
    /// How long a grant lives, however often it is refreshed.
    pub refresh_max: Duration,
}

/// No code lives longer (RFC 6749 §4.1.2), and the replay of one counts for this long after its issue.
pub const MAX_CODE_TTL: Duration = Duration::from_secs(600);

/// The widest grace window that may be configured.
pub const MAX_GRACE: Duration = Duration::from_secs(300);

/// What happens when a refresh is tried again after the grace window and its successor was never used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LateRetry {
    /// The answer was lost: issue a new successor.
    Reissue,
    /// The strict reading of RFC 9700 §4.14.2: end the grant.
    Revoke,
}

impl Default for Policy {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(86_400);
        Self {
            access_ttl: DAY,
            code_ttl: Duration::from_secs(60),
            grace: Duration::from_secs(30),
            late_retry: LateRetry::Reissue,
            max_unproven: 8,
            refresh_idle: 365 * DAY,
            refresh_max: Duration::from_secs(5 * 31_557_600),
        }
    }
}
