//! Lifetimes and choices that the rules of a grant depend on: the server's, and where a client has its own, the client's.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::choice::Choice;
use crate::rate_limit::RateLimit;
use crate::time::text_of;

/// Holds the lifetimes and choices for a client's codes and tokens. The defaults are the settings `tokens.…` and `limits.…`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Policy {
    /// The lifetime of an access token: `exp - iat`, in whole seconds.
    pub access_ttl: Duration,
    /// The time in which a code can be redeemed. At most [`MAX_CODE_TTL`].
    pub code_ttl: Duration,
    /// The grace window: the time after a refresh in which its predecessor gets the same answer again. Zero requires
    /// [`LateRetry::Revoke`].
    pub grace: Duration,
    /// The treatment of a predecessor after the grace window, while its successor is unused.
    pub late_retry: LateRetry,
    /// The number of late retries in a row that are reissued before two parties are assumed.
    pub max_unproven: u64,
    /// The lifetime of a refresh token that isn't used.
    pub refresh_idle: Duration,
    /// The lifetime of a grant, however often it is refreshed.
    pub refresh_max: Duration,
    /// The audience, which stands before the issuer in `aud`, or alone ([`Client::sole_audience`]).
    ///
    /// [`Client::sole_audience`]: crate::client::Client::sole_audience
    pub audience: Option<Audience>,
    /// Allows token parameters in the query of a POST with an empty body, as existing clients send them.
    pub query_params: bool,
    /// The new guests that one address may bring.
    pub guests_per_address: RateLimit,
    /// The new guests that the client may bring in all.
    pub guests_per_client: RateLimit,
    /// The wrong API keys, codes, verifiers and tokens that one address may show.
    pub failures_per_address: RateLimit,
    /// The revocations and erasures that one address may ask for.
    pub endings_per_address: RateLimit,
    /// The access tokens of one grant that may be revoked.
    pub endings_per_grant: RateLimit,
    /// The introspections that the client may ask for.
    pub introspections_per_client: RateLimit,
}

impl Policy {
    /// Returns this policy with the rate limits of another.
    #[must_use]
    pub fn with_limits_of(&self, other: &Self) -> Self {
        Self {
            guests_per_address: other.guests_per_address,
            guests_per_client: other.guests_per_client,
            failures_per_address: other.failures_per_address,
            endings_per_address: other.endings_per_address,
            endings_per_grant: other.endings_per_grant,
            introspections_per_client: other.introspections_per_client,
            ..self.clone()
        }
    }

    /// Returns the policy of a client that has choices of its own, where `self` is the server's.
    #[must_use]
    pub fn with(&self, overrides: &PolicyOverrides) -> Self {
        Self {
            access_ttl: overrides.access_ttl.unwrap_or(self.access_ttl),
            code_ttl: overrides.code_ttl.unwrap_or(self.code_ttl),
            grace: overrides.grace.unwrap_or(self.grace),
            late_retry: overrides.late_retry.unwrap_or(self.late_retry),
            max_unproven: overrides.max_unproven.unwrap_or(self.max_unproven),
            refresh_idle: overrides.refresh_idle.unwrap_or(self.refresh_idle),
            refresh_max: overrides.refresh_max.unwrap_or(self.refresh_max),
            audience: overrides.audience.clone().or_else(|| self.audience.clone()),
            query_params: overrides.query_params.unwrap_or(self.query_params),
            guests_per_address: overrides
                .guests_per_address
                .unwrap_or(self.guests_per_address),
            guests_per_client: overrides
                .guests_per_client
                .unwrap_or(self.guests_per_client),
            failures_per_address: overrides
                .failures_per_address
                .unwrap_or(self.failures_per_address),
            endings_per_address: overrides
                .endings_per_address
                .unwrap_or(self.endings_per_address),
            endings_per_grant: overrides
                .endings_per_grant
                .unwrap_or(self.endings_per_grant),
            introspections_per_client: overrides
                .introspections_per_client
                .unwrap_or(self.introspections_per_client),
        }
    }

    /// Returns one of the rate limits. No other choice limits anything.
    #[must_use]
    pub const fn rate_limit(&self, choice: Choice) -> RateLimit {
        match choice {
            Choice::GuestsPerAddress => self.guests_per_address,
            Choice::GuestsPerClient => self.guests_per_client,
            Choice::FailuresPerAddress => self.failures_per_address,
            Choice::EndingsPerAddress => self.endings_per_address,
            Choice::EndingsPerGrant => self.endings_per_grant,
            Choice::IntrospectionsPerClient => self.introspections_per_client,
            Choice::AccessTtl
            | Choice::CodeTtl
            | Choice::Grace
            | Choice::LateRetry
            | Choice::MaxUnproven
            | Choice::RefreshIdle
            | Choice::RefreshMax
            | Choice::Audience
            | Choice::QueryParams
            | Choice::AudienceRestricted
            | Choice::ResumeWithJwt
            | Choice::OnEnded
            | Choice::Typ
            | Choice::Origins
            | Choice::May
            | Choice::Claims
            | Choice::Cookies
            | Choice::CookieDomain
            | Choice::PageToken
            | Choice::TicketTo => RateLimit::OFF,
        }
    }

    /// Checks each value, and that they go together.
    ///
    /// # Errors
    /// [`PolicyError`] for the first thing that can't be right.
    pub fn check(&self) -> Result<(), PolicyError> {
        for (choice, lifetime) in [
            (Choice::AccessTtl, self.access_ttl),
            (Choice::CodeTtl, self.code_ttl),
            (Choice::Grace, self.grace),
            (Choice::RefreshIdle, self.refresh_idle),
            (Choice::RefreshMax, self.refresh_max),
        ] {
            choice.check_lifetime(lifetime)?;
        }
        check_max_unproven(self.max_unproven)?;
        // Tabs would be late retries, and a few of them would count as two parties.
        if self.grace.is_zero() && self.late_retry == LateRetry::Reissue {
            return Err(PolicyError::ReissueWithoutGrace);
        }
        Ok(())
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            access_ttl: DAY,
            code_ttl: Duration::from_secs(60),
            grace: Duration::from_secs(30),
            late_retry: LateRetry::Reissue,
            max_unproven: 8,
            refresh_idle: 365 * DAY,
            refresh_max: 5 * YEAR,
            audience: None,
            query_params: true,
            guests_per_address: RateLimit::of(1_000, 2 * MINUTE),
            guests_per_client: RateLimit::OFF,
            failures_per_address: RateLimit::of(1_000, 2 * MINUTE),
            endings_per_address: RateLimit::of(1_000, 2 * MINUTE),
            endings_per_grant: RateLimit::of(30, 60 * MINUTE),
            introspections_per_client: RateLimit::OFF,
        }
    }
}

/// No code lives longer (RFC 6749 §4.1.2), and the replay of one counts for this long after its issue.
pub const MAX_CODE_TTL: Duration = Duration::from_secs(600);

/// The widest grace window that may be configured.
pub const MAX_GRACE: Duration = Duration::from_secs(300);

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);
const YEAR: Duration = Duration::from_secs(31_557_600);

/// Holds a client's own choices. Where one is `None`, the server's default holds, also when that changes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[expect(missing_docs, reason = "the fields are those of `Policy`")]
pub struct PolicyOverrides {
    pub access_ttl: Option<Duration>,
    pub code_ttl: Option<Duration>,
    pub grace: Option<Duration>,
    pub late_retry: Option<LateRetry>,
    pub max_unproven: Option<u64>,
    pub refresh_idle: Option<Duration>,
    pub refresh_max: Option<Duration>,
    pub audience: Option<Audience>,
    pub query_params: Option<bool>,
    pub guests_per_address: Option<RateLimit>,
    pub guests_per_client: Option<RateLimit>,
    pub failures_per_address: Option<RateLimit>,
    pub endings_per_address: Option<RateLimit>,
    pub endings_per_grant: Option<RateLimit>,
    pub introspections_per_client: Option<RateLimit>,
}

impl PolicyOverrides {
    /// Returns these choices, and those of `earlier` where there is none.
    #[must_use]
    pub fn or(&self, earlier: &Self) -> Self {
        Self {
            access_ttl: self.access_ttl.or(earlier.access_ttl),
            code_ttl: self.code_ttl.or(earlier.code_ttl),
            grace: self.grace.or(earlier.grace),
            late_retry: self.late_retry.or(earlier.late_retry),
            max_unproven: self.max_unproven.or(earlier.max_unproven),
            refresh_idle: self.refresh_idle.or(earlier.refresh_idle),
            refresh_max: self.refresh_max.or(earlier.refresh_max),
            audience: self.audience.clone().or_else(|| earlier.audience.clone()),
            query_params: self.query_params.or(earlier.query_params),
            guests_per_address: self.guests_per_address.or(earlier.guests_per_address),
            guests_per_client: self.guests_per_client.or(earlier.guests_per_client),
            failures_per_address: self.failures_per_address.or(earlier.failures_per_address),
            endings_per_address: self.endings_per_address.or(earlier.endings_per_address),
            endings_per_grant: self.endings_per_grant.or(earlier.endings_per_grant),
            introspections_per_client: self
                .introspections_per_client
                .or(earlier.introspections_per_client),
        }
    }
}

/// Checks a value for [`Policy::max_unproven`].
///
/// # Errors
/// [`PolicyError`] if it is too small or too large.
pub fn check_max_unproven(count: u64) -> Result<(), PolicyError> {
    if (1..=1000).contains(&count) {
        Ok(())
    } else {
        Err(PolicyError::MaxUnprovenOutOfRange)
    }
}

/// Names the reason for which a policy can't be followed. Its text says what to choose instead.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PolicyError {
    /// A lifetime must lie between these two.
    LifetimeOutOfRange(Choice, Duration, Duration),
    /// Times have no finer parts.
    LifetimeNotWholeMilliseconds(Choice),
    /// `exp` has no parts of a second.
    AccessTtlNotWholeSeconds,
    /// It must be a few, but some.
    MaxUnprovenOutOfRange,
    /// Without a window every second tab is a late retry.
    ReissueWithoutGrace,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LifetimeOutOfRange(choice, shortest, longest) => write!(
                f,
                "{} must lie between {} and {}",
                choice.name(),
                text_of(*shortest),
                text_of(*longest)
            ),
            Self::LifetimeNotWholeMilliseconds(choice) => {
                write!(f, "{} must be whole milliseconds", choice.name())
            }
            Self::AccessTtlNotWholeSeconds => {
                f.write_str("access_ttl must be whole seconds, as `exp` is")
            }
            Self::MaxUnprovenOutOfRange => f.write_str("max_unproven must lie between 1 and 1000"),
            Self::ReissueWithoutGrace => f.write_str(
                "a grace of 0s leaves every second tab to late_retry = reissue, and then tabs would use up \
                 max_unproven. Choose late_retry = revoke, or a grace such as 30s",
            ),
        }
    }
}

impl std::error::Error for PolicyError {}

/// Chooses the answer to a refresh that is tried again after the grace window, when its successor was never used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LateRetry {
    /// The answer was lost: issue a new successor.
    Reissue,
    /// The strict reading of RFC 9700 §4.14.2: end the grant.
    Revoke,
}

impl LateRetry {
    /// Returns the stable name, in settings and in the store.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reissue => "reissue",
            Self::Revoke => "revoke",
        }
    }
}

impl FromStr for LateRetry {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Reissue, Self::Revoke]
            .into_iter()
            .find(|choice| choice.name() == text)
            .ok_or("write reissue or revoke")
    }
}

/// An audience, which stands in `aud`: 1 to 64 ASCII letters, digits and `-._:/@`, so that nothing in it needs
/// escaping and an answer stays as small as existing clients need it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Audience(String);

impl Audience {
    /// Returns the audience as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Audience {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:/@".contains(&byte);
        if (1..=64).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err("write 1 to 64 letters, digits and `-._:/@`, for example https://api.example")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const CENTURY: Duration = Duration::from_secs(100 * 31_557_600);

    #[test]
    fn what_a_client_has_not_chosen_is_the_servers() {
        let server = Policy {
            grace: 10 * SECOND,
            audience: "server".parse().ok(),
            query_params: false,
            ..Policy::default()
        };
        assert_eq!(server.with(&PolicyOverrides::default()), server);
        let one = PolicyOverrides {
            query_params: Some(true),
            ..PolicyOverrides::default()
        };
        let expected = Policy {
            query_params: true,
            ..server.clone()
        };
        assert_eq!(server.with(&one), expected);
    }

    #[test]
    fn what_a_client_has_chosen_holds() {
        let all = Policy {
            access_ttl: SECOND,
            code_ttl: 2 * SECOND,
            grace: 3 * SECOND,
            late_retry: LateRetry::Revoke,
            max_unproven: 4,
            refresh_idle: 5 * SECOND,
            refresh_max: 6 * SECOND,
            audience: "client".parse().ok(),
            query_params: false,
            guests_per_address: "1/1s".parse().unwrap(),
            guests_per_client: "2/1s".parse().unwrap(),
            failures_per_address: "3/1s".parse().unwrap(),
            endings_per_address: "4/1s".parse().unwrap(),
            endings_per_grant: "5/1s".parse().unwrap(),
            introspections_per_client: "6/1s".parse().unwrap(),
        };
        let overrides = PolicyOverrides {
            access_ttl: Some(all.access_ttl),
            code_ttl: Some(all.code_ttl),
            grace: Some(all.grace),
            late_retry: Some(all.late_retry),
            max_unproven: Some(all.max_unproven),
            refresh_idle: Some(all.refresh_idle),
            refresh_max: Some(all.refresh_max),
            audience: all.audience.clone(),
            query_params: Some(all.query_params),
            guests_per_address: Some(all.guests_per_address),
            guests_per_client: Some(all.guests_per_client),
            failures_per_address: Some(all.failures_per_address),
            endings_per_address: Some(all.endings_per_address),
            endings_per_grant: Some(all.endings_per_grant),
            introspections_per_client: Some(all.introspections_per_client),
        };
        assert_eq!(Policy::default().with(&overrides), all);
    }

    #[test]
    fn what_a_policy_may_say() {
        const MILLISECOND: Duration = Duration::from_millis(1);
        type Change = fn(&mut Policy);
        let good: [Change; 9] = [
            |_| {},
            |p| p.access_ttl = SECOND,
            |p| p.access_ttl = CENTURY,
            |p| p.code_ttl = MAX_CODE_TTL,
            |p| p.grace = MAX_GRACE,
            |p| p.grace = MILLISECOND,
            |p| (p.grace, p.late_retry) = (Duration::ZERO, LateRetry::Revoke),
            |p| p.max_unproven = 1000,
            |p| (p.refresh_idle, p.refresh_max) = (SECOND + MILLISECOND, SECOND),
        ];
        let bad: [(Change, &str); 13] = [
            (|p| p.access_ttl = Duration::ZERO, "between 1s and 100y"),
            (|p| p.access_ttl = CENTURY + SECOND, "access_ttl"),
            (|p| p.access_ttl = SECOND + MILLISECOND, "whole seconds"),
            (|p| p.code_ttl = Duration::ZERO, "code_ttl"),
            (|p| p.code_ttl = MAX_CODE_TTL + SECOND, "between 1s and 10m"),
            (|p| p.grace = MAX_GRACE + MILLISECOND, "between 0s and 5m"),
            (|p| p.grace = Duration::from_nanos(1), "whole milliseconds"),
            (|p| p.grace = Duration::ZERO, "late_retry = revoke"),
            (|p| p.max_unproven = 0, "between 1 and 1000"),
            (|p| p.max_unproven = 1001, "between 1 and 1000"),
            (|p| p.refresh_idle = MILLISECOND, "refresh_idle"),
            (|p| p.refresh_idle = CENTURY + SECOND, "refresh_idle"),
            (|p| p.refresh_max = CENTURY + SECOND, "refresh_max"),
        ];
        let checked = |change: Change| {
            let mut policy = Policy::default();
            change(&mut policy);
            policy.check().map_err(|error| error.to_string())
        };
        for (row, change) in good.into_iter().enumerate() {
            assert_eq!(checked(change), Ok(()), "{row}");
        }
        for (change, hint) in bad {
            let problem = checked(change).unwrap_err();
            assert!(problem.contains(hint), "should say {hint}: {problem}");
        }
    }

    #[test]
    fn audiences() {
        for good in ["a", "https://api.example:8443/v1", &"a".repeat(64)] {
            assert_eq!(good.parse::<Audience>().unwrap().as_str(), good);
        }
        for bad in ["", "a b", "a,b", "é", "~", &"a".repeat(65)] {
            assert!(bad.parse::<Audience>().is_err(), "{bad}");
        }
    }
}
