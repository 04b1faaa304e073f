//! Decides which time to serve, and whether it can be trusted: pure code, given what a reference (the database's clock, or
//! else the machine's) and the monotonic clock say.
//!
//! Both are compared as an offset: what has to be added to the monotonic clock to get a time of day. As long as nobody
//! sets the reference its offset stays the same, so a change of the offset is a jump, however often it is looked at.

use std::time::Duration;

use guestpass_core::time::Timestamp;

use super::MAX_SKEW;

/// The time that is served, as offsets in milliseconds, and the doubt about it if there is one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trust {
    /// The time that is served. It doesn't follow a jump of the reference before that is trusted.
    pub(super) served: i64,
    /// The earliest time that it may be instead; the same while there is no doubt.
    pub(super) earliest: i64,
    doubt: Option<Doubt>,
    /// Set if the start was at a time that is only plausible.
    provisional: Option<Provisional>,
    looked_at: Duration,
}

/// Until then a reference that is set back is believed at once, if it still fits the time at which the store was last
/// served: machines boot with a clock that is some hours ahead, and are corrected a minute later.
#[derive(Clone, Copy, Debug)]
struct Provisional {
    seen: Seen,
    until: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Doubt {
    cause: Cause,
    /// The offset of the reference, to see whether it stays where it is.
    reference: i64,
    /// The time since which it has stayed there.
    since: Duration,
}

#[derive(Clone, Copy, Debug)]
enum Cause {
    /// The process started with a reference that doesn't fit the time at which the store was last served.
    Start(Seen),
    /// The reference has jumped since.
    Jump,
}

/// The time at which the store was last served, as an offset.
#[derive(Clone, Copy, Debug)]
struct Seen {
    offset: i64,
    /// A store that was never served can have been made at any later time.
    is_known: bool,
}

/// A time of day as the reference tells it: somewhere in this interval of offsets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reference {
    pub(super) from: i64,
    pub(super) to: i64,
}

/// A change of the trust, to be logged.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    /// The reference is off by so many milliseconds, and not believed.
    Doubted(i64),
    /// The reference is believed, and the time that is served moves by so many milliseconds.
    Trusted(i64),
}

impl Trust {
    /// Believes a reference, at a moment of the monotonic clock.
    pub(super) fn new(now: Duration, reference: i64) -> Self {
        Self {
            served: reference,
            earliest: reference,
            doubt: None,
            provisional: None,
            looked_at: now,
        }
    }

    /// Begins to serve a store: `seen` is the time at which it was last served, if it ever was.
    ///
    /// A reference that is behind that time, or more than [`STANDSTILL`] ahead of it, isn't believed: the later of the two
    /// is served, and the earlier is the earliest that it may be.
    pub(super) fn begin(&mut self, now: Duration, seen: Option<Timestamp>) -> Option<Verdict> {
        let seen = Seen {
            offset: offset(seen.unwrap_or(RELEASED), now),
            is_known: seen.is_some(),
        };
        let reference = self.served;
        if seen.is_plausible(reference) {
            self.trust(reference.max(seen.offset));
            if seen.is_known && reference - seen.offset > TOLERATED {
                let until = now + AGREEMENT;
                self.provisional = Some(Provisional { seen, until });
            }
            return None;
        }
        Some(self.doubt(Cause::Start(seen), reference, now))
    }

    /// Compares the reference with what is served, and follows small corrections slowly, so that the time that is
    /// served never runs backwards. Answers with a verdict if one has changed.
    pub(super) fn look(&mut self, now: Duration, reference: Reference) -> Option<Verdict> {
        let elapsed = millis(now.saturating_sub(self.looked_at));
        self.looked_at = now;
        let Some(doubt) = self.doubt else {
            let nearest = reference.nearest_to(self.served);
            let error = nearest - self.served;
            if error < -TOLERATED && self.was_corrected(now, nearest) {
                return Some(self.accept(nearest));
            }
            if error.abs() > TOLERATED {
                return Some(self.doubt(Cause::Jump, nearest, now));
            }
            let most = elapsed / SLEW;
            self.trust(self.served + error.clamp(-most, most));
            return None;
        };
        let nearest = reference.nearest_to(doubt.reference);
        let is_explained = match doubt.cause {
            Cause::Start(seen) => seen.is_plausible(nearest),
            Cause::Jump => (nearest - self.served).abs() <= TOLERATED,
        };
        if is_explained {
            let time = match doubt.cause {
                Cause::Start(seen) => nearest.max(seen.offset),
                // The jump was undone: what little is left of it is followed slowly.
                Cause::Jump => self.served,
            };
            return Some(self.accept(time));
        }
        if (nearest - doubt.reference).abs() > TOLERATED {
            return Some(self.doubt(doubt.cause, nearest, now));
        }
        if now.saturating_sub(doubt.since) >= AGREEMENT {
            return Some(self.accept(nearest));
        }
        None
    }

    /// Believes the reference from now on, whatever it says.
    pub(super) fn accept(&mut self, reference: i64) -> Verdict {
        let moved = reference - self.served;
        self.trust(reference);
        Verdict::Trusted(moved)
    }

    pub(super) const fn is_doubted(&self) -> bool {
        self.doubt.is_some()
    }

    fn was_corrected(&self, now: Duration, reference: i64) -> bool {
        self.provisional
            .is_some_and(|start| now < start.until && start.seen.is_plausible(reference))
    }

    fn trust(&mut self, time: i64) {
        self.served = time;
        self.earliest = time;
        self.doubt = None;
    }

    fn doubt(&mut self, cause: Cause, reference: i64, now: Duration) -> Verdict {
        self.doubt = Some(Doubt {
            cause,
            reference,
            since: now,
        });
        match cause {
            Cause::Start(seen) => {
                self.served = reference.max(seen.offset);
                self.earliest = reference.min(seen.offset);
                Verdict::Doubted(reference - seen.offset)
            }
            Cause::Jump => Verdict::Doubted(reference - self.served),
        }
    }
}

impl Seen {
    fn is_plausible(self, reference: i64) -> bool {
        let since = reference - self.offset;
        since >= -TOLERATED && (!self.is_known || since <= millis(STANDSTILL))
    }
}

impl Reference {
    pub(super) const fn exactly(offset: i64) -> Self {
        Self {
            from: offset,
            to: offset,
        }
    }

    /// The true time is somewhere in the interval, so its nearest end is never further from it than `offset` is.
    fn nearest_to(self, offset: i64) -> i64 {
        offset.clamp(self.from, self.to)
    }
}

/// Returns what has to be added to the monotonic clock to get `at`.
pub(super) fn offset(at: Timestamp, monotonic: Duration) -> i64 {
    at.as_millis().saturating_sub(millis(monotonic))
}

pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// The time for which a jumped reference must agree with the monotonic clock until it is believed.
pub const AGREEMENT: Duration = Duration::from_secs(3600);

/// The longest that an installation may have stood still for its clock to be believed at once.
pub const STANDSTILL: Duration = Duration::from_secs(7 * 86_400);

/// The largest difference that is followed without doubt, in milliseconds.
const TOLERATED: i64 = MAX_SKEW.as_millis() as i64;

/// A correction goes at most one part in so many as fast as time does. A reference that runs faster than that gets ahead by
/// more than is tolerated.
const SLEW: i64 = 10;

/// Before any release of this program: a clock that says less was never set.
const RELEASED: Timestamp = Timestamp::from_millis(1_767_225_600_000); // 2026-01-01
