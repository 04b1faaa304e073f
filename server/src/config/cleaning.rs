//! The settings of the cleaner: for how long what is kept.

use std::time::Duration;

use guestpass_core::time::Timestamp;

use super::values::{CENTURY, ConfigError, SECOND, Values};
use crate::store::IdleBefore;

/// The times for which the cleaner keeps what it removes in the end.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    /// A tombstone.
    pub tombstones: Duration,
    /// A guest whose code was never redeemed.
    pub orphans: Duration,
    /// An event, delivered or not.
    pub events: Duration,
    /// Guests who don't come back.
    pub guests: Retention,
}

/// The time for which a guest is kept that has no grant any more, since it was last here; `None` is for ever.
#[derive(Clone, Copy, Debug, Default)]
pub struct Retention {
    /// A guest that is linked to no customer.
    pub idle: Option<Duration>,
    /// One that is.
    pub idle_linked: Option<Duration>,
}

impl Retention {
    /// Returns whether guests are kept for ever.
    #[must_use]
    pub const fn is_off(self) -> bool {
        self.idle.is_none() && self.idle_linked.is_none()
    }

    /// Returns the times before which guests must have been here last to be forgotten now.
    #[must_use]
    pub fn before(self, now: Timestamp) -> IdleBefore {
        IdleBefore {
            unlinked: self.idle.map(|idle| now.before(idle)),
            linked: self.idle_linked.map(|idle| now.before(idle)),
        }
    }
}

impl Keep {
    /// Parses the times. A tombstone is kept at least for `refresh_max`, the longest life of a grant.
    pub(super) fn parse(values: &Values, refresh_max: Duration) -> Result<Self, ConfigError> {
        let hour = 3600 * SECOND;
        let day = 24 * hour;
        let idle = |name| {
            values.one(name, |text| match text {
                "off" => Ok(None),
                text => match humantime::parse_duration(text) {
                    Ok(idle) if (30 * day..=CENTURY).contains(&idle) => Ok(Some(idle)),
                    Ok(_) => Err("it must be at least 30d, or off".to_owned()),
                    Err(_) => Err("write a duration such as 365d, or off".to_owned()),
                },
            })
        };
        Ok(Self {
            tombstones: values.duration("erasure.keep", refresh_max..=CENTURY)?,
            orphans: values.duration("cleaning.orphans", hour..=30 * day)?,
            events: values.duration("events.keep", 7 * day..=CENTURY)?,
            guests: Retention {
                idle: idle("retention.idle")?,
                idle_linked: idle("retention.idle_linked")?,
            },
        })
    }
}

/// Parses the time after which a node trusts its clock enough to clean.
pub(super) fn clean_after(values: &Values) -> Result<Duration, ConfigError> {
    let day = 86_400 * SECOND;
    values.duration("cleaning.start_after", Duration::ZERO..=day)
}
