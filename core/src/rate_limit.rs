//! Rate limits: so many in so much time.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use crate::choice::Choice;
use crate::time::text_of;

/// A token bucket: so many at once, and as many more, evenly, in each period. Or no limit.
///
/// Its text is `COUNT/DURATION`, for example `1000/2m`, or `off`.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct RateLimit(Option<(NonZeroU32, Duration)>);

impl RateLimit {
    /// Limits nothing.
    pub const OFF: Self = Self(None);

    pub(crate) const fn of(count: u32, period: Duration) -> Self {
        match NonZeroU32::new(count) {
            Some(count) => Self(Some((count, period))),
            None => Self::OFF,
        }
    }

    /// Returns the size of the bucket, and the time in which it fills. `None` if there is no limit.
    #[must_use]
    pub const fn bucket(self) -> Option<(NonZeroU32, Duration)> {
        self.0
    }

    /// Returns the limit of many who are limited by this one each, at most the largest that there is.
    #[must_use]
    pub const fn times(self, count: u32) -> Self {
        match self.0 {
            Some((each, period)) => {
                let all = each.get().saturating_mul(count);
                Self::of(if all < MOST { all } else { MOST }, period)
            }
            None => Self::OFF,
        }
    }
}

/// A limit that a request is beyond.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Exceeded {
    /// The limit.
    pub limit: Choice,
    /// The size of its bucket, and the time in which that fills.
    pub bucket: (NonZeroU32, Duration),
    /// The seconds after which the request will be within it again, if nothing else comes; at least one.
    pub retry_after: u64,
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some((count, period)) => write!(f, "{count}/{}", text_of(period)),
            None => f.write_str("off"),
        }
    }
}

impl FromStr for RateLimit {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const HINT: &str = "write how many in what time, for example 1000/2m, or off; at most 1000000000 in up to a day";
        if text == "off" {
            return Ok(Self::OFF);
        }
        let (count, period) = text.split_once('/').ok_or(HINT)?;
        let count: NonZeroU32 = count.parse().map_err(|_| HINT)?;
        let period = humantime::parse_duration(period).map_err(|_| HINT)?;
        // The time between two must be one that can be told.
        let is_sound = count.get() <= MOST && (SECOND..=DAY).contains(&period);
        is_sound.then_some(Self(Some((count, period)))).ok_or(HINT)
    }
}

const MOST: u32 = 1_000_000_000;
const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_many_is_one_that_can_be_written() {
        for (one, many) in [
            ("10/1m", "160/1m"),
            ("900000000/1s", "1000000000/1s"),
            ("off", "off"),
        ] {
            let limit: RateLimit = one.parse().unwrap();
            assert_eq!(limit.times(16).to_string(), many);
        }
    }

    #[test]
    fn a_limit_is_read_as_it_was_written() {
        for text in ["1/1s", "1000/2m", "1000000000/1d", "off"] {
            assert_eq!(text.parse::<RateLimit>().unwrap().to_string(), text);
        }
        for bad in [
            "",
            "10",
            "0/1m",
            "-1/1m",
            "1/0s",
            "1/2d",
            "1/1ms",
            "1e3/1m",
            "1000000001/1m",
            "OFF",
            "1/1m/1m",
        ] {
            assert!(bad.parse::<RateLimit>().is_err(), "{bad}");
        }
    }
}
