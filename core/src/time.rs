//! Represents points in time. The protocol never asks for the time: it is an argument wherever it is needed.

use std::ops::Add;
use std::time::{Duration, UNIX_EPOCH};

/// Holds a point in time as milliseconds since the Unix epoch, without leap seconds.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Makes the point `millis` milliseconds after the Unix epoch.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Returns the milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Returns the whole seconds since the Unix epoch: the `NumericDate` of RFC 7519 §2.
    #[must_use]
    pub const fn as_seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// Formats the time as RFC 3339 with milliseconds, in UTC. What lies outside of the years 1970 to 9999 becomes their
    /// beginning or end.
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        let millis = u64::try_from(self.0.clamp(0, END_OF_9999)).unwrap_or_default();
        humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(millis)).to_string()
    }

    /// Returns the time that has passed since `earlier`: zero if `earlier` is in fact later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Returns the point `duration` before this one.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }
}

/// 9999-12-31T23:59:59.999Z, the last time that four digits of a year can say.
const END_OF_9999: i64 = 253_402_300_799_999;

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }
}

/// Formats a duration as an operator would write it: as a number of the largest unit that leaves no remainder (`90s`,
/// `1h`). Anything below a millisecond is cut off.
#[must_use]
pub fn text_of(duration: Duration) -> String {
    const UNITS: [(u128, &str); 5] = [
        (31_557_600_000, "y"),
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "m"),
        (1000, "s"),
    ];
    let millis = duration.as_millis();
    if millis == 0 {
        return "0s".to_owned();
    }
    match UNITS.iter().find(|(unit, _)| millis.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{}{name}", millis / unit),
        None => format!("{millis}ms"),
    }
}

/// Formats a duration for people to read, in its two largest units at most (`1 day 5 s`). It rounds up, so that whoever
/// waits as long has waited long enough.
#[must_use]
pub fn words_of(duration: Duration) -> String {
    const UNITS: [(u64, &str, &str); 5] = [
        (31_557_600, "year", "years"),
        (86_400, "day", "days"),
        (3_600, "h", "h"),
        (60, "min", "min"),
        (1, "s", "s"),
    ];
    let parts = |mut seconds: u64| {
        let mut parts = Vec::new();
        for (unit, one, many) in UNITS {
            let number = seconds / unit;
            seconds %= unit;
            if number > 0 {
                let name = if number == 1 { one } else { many };
                parts.push((unit, format!("{number} {name}")));
            }
        }
        parts
    };
    let mut seconds = duration
        .as_millis()
        .div_ceil(1000)
        .try_into()
        .unwrap_or(u64::MAX);
    let mut shown = parts(seconds);
    while let [_, (second, _), _, ..] = shown[..] {
        seconds = seconds.div_ceil(second).saturating_mul(second);
        shown = parts(seconds);
    }
    match &shown[..] {
        [] => "0 s".to_owned(),
        shown => shown
            .iter()
            .map(|(_, text)| text.as_str())
            .collect::<Vec<_>>()
            .join(" "),
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f27_durations_in_words() {
        for (millis, words) in [
            (0, "0 s"),
            (1, "1 s"),
            (59_001, "1 min"),
            (65_000, "1 min 5 s"),
            (3_600_000, "1 h"),
            (3_725_000, "1 h 3 min"),
            (86_405_000, "1 day 5 s"),
            (2 * 86_400_000 + 7_199_000, "2 days 2 h"),
            (2 * 86_400_000 - 1_000, "2 days"),
            (63_115_200_000, "2 years"),
            (31_557_600_000 + 3_601_000, "1 year 2 h"),
        ] {
            assert_eq!(words_of(Duration::from_millis(millis)), words);
        }
    }

    #[test]
    fn durations_as_text() {
        for (millis, text) in [
            (0, "0s"),
            (1, "1ms"),
            (1500, "1500ms"),
            (30_000, "30s"),
            (90_000, "90s"),
            (3_600_000, "1h"),
            (86_400_000, "1d"),
            (31_536_000_000, "365d"),
            (5 * 31_557_600_000, "5y"),
        ] {
            assert_eq!(text_of(Duration::from_millis(millis)), text);
        }
    }
}
