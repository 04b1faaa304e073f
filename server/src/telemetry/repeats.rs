//! Lines that repeat: said some times, and then only counted, so that neither strangers nor an outage fill a disk with the log.

use std::collections::HashMap;
use std::fmt::{Debug, Write};
use std::hash::{DefaultHasher, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use guestpass_core::rate_limit::RateLimit;
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata};

use super::lines::MESSAGE;

/// Decides which events are written. Two are of one kind if they come from one place in the code and name the same reason.
///
/// Of each kind the first lines of a period are written. While more keep coming, one of each period is, with the number of
/// the others. The table of kinds is bounded: if it is full, the one that began first makes room. Whatever is seen for the
/// first time is written.
///
/// Never left out are security events, what is logged below INFO, and answers to a known client or guest, who can't be more
/// than the limits of requests allow.
pub(super) struct Repeats {
    limit: Limit,
    kinds: Mutex<HashMap<Kind, Counted>>,
}

/// The lines of one kind that are written in one period.
#[derive(Clone, Copy)]
struct Limit {
    lines: u64,
    period: Duration,
}

#[derive(Clone, Eq, Hash, PartialEq)]
struct Kind {
    callsite: Identifier,
    /// A hash of the reasons that it names, without digits: those may differ each time.
    reasons: u64,
}

struct Counted {
    tally: Tally,
    says: Says,
}

/// Counts the lines of one kind in one period.
struct Tally {
    since: Instant,
    seen: u64,
    left_out: u64,
    /// More came in the last period than are written.
    is_flooded: bool,
}

/// The number of lines that were left out, and the time in which they came.
#[derive(Debug, Eq, PartialEq)]
struct Missed {
    lines: u64,
    within: Duration,
}

/// Keeps what the lines of a kind say.
struct Says {
    metadata: &'static Metadata<'static>,
    message: String,
    reason: Option<(&'static str, String)>,
}

/// Lines that were left out.
pub(super) struct LeftOut {
    pub(super) metadata: &'static Metadata<'static>,
    /// The message of each, with their number.
    pub(super) message: String,
    /// The field that tells them apart from others of that message.
    pub(super) reason: Option<(&'static str, String)>,
}

impl Repeats {
    /// Returns `None` if there is no limit.
    pub(super) fn new(limit: RateLimit) -> Option<Self> {
        let (lines, period) = limit.bucket()?;
        let lines = lines.get().into();
        Some(Self {
            limit: Limit { lines, period },
            kinds: Mutex::default(),
        })
    }

    /// Counts an event. Returns whether it is to be written, and behind which lines that were left out.
    pub(super) fn note(&self, event: &Event<'_>, now: Instant) -> (bool, Option<LeftOut>) {
        let metadata = event.metadata();
        let is_never_left_out = metadata.name() == TO_SOMEBODY_KNOWN
            || metadata.target() == SECURITY
            || *metadata.level() > Level::INFO;
        if is_never_left_out {
            return (true, None);
        }
        let mut reasons = Reasons::default();
        event.record(&mut reasons);
        let kind = Kind {
            callsite: metadata.callsite(),
            reasons: reasons.hash.finish(),
        };
        if let Some(counted) = self.kinds().get_mut(&kind) {
            let left_out = counted.end_period(now, self.limit);
            return (counted.tally.admits_one_more(self.limit), left_out);
        }
        // Not under the lock: a value may log while it is read.
        let counted = Counted {
            tally: Tally::first(now),
            says: Says::of(event),
        };
        let mut kinds = self.kinds();
        let oldest = kinds
            .iter()
            .min_by_key(|(_, counted)| counted.tally.since)
            .filter(|_| kinds.len() >= MOST_KINDS)
            .map(|(kind, _)| kind.clone());
        let evicted = oldest.and_then(|kind| kinds.remove(&kind));
        kinds.insert(kind, counted);
        (true, evicted.and_then(|counted| counted.left_out(now)))
    }

    /// Returns the lines that were left out in periods that are over, and forgets the kinds that didn't come in theirs.
    pub(super) fn left_out(&self, now: Instant) -> Vec<LeftOut> {
        let mut left_out = Vec::new();
        self.kinds().retain(|_, counted| {
            let is_of_use = counted.tally.seen > 0 || !counted.tally.is_over(now, self.limit);
            left_out.extend(counted.end_period(now, self.limit));
            is_of_use
        });
        left_out
    }

    /// Returns the lines that were left out, whether or not their period is over.
    pub(super) fn all_left_out(&self, now: Instant) -> Vec<LeftOut> {
        let kinds = std::mem::take(&mut *self.kinds());
        kinds
            .into_values()
            .filter_map(|counted| counted.left_out(now))
            .collect()
    }

    fn kinds(&self) -> MutexGuard<'_, HashMap<Kind, Counted>> {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counted {
    fn end_period(&mut self, now: Instant, limit: Limit) -> Option<LeftOut> {
        let missed = self.tally.end_period(now, limit)?;
        Some(self.says.left_out(&missed))
    }

    fn left_out(&self, now: Instant) -> Option<LeftOut> {
        Some(self.says.left_out(&self.tally.missed(now)?))
    }
}

impl Tally {
    /// Counts the first line of a kind, which is written.
    fn first(now: Instant) -> Self {
        Self {
            since: now,
            seen: 1,
            left_out: 0,
            is_flooded: false,
        }
    }

    fn is_over(&self, now: Instant, limit: Limit) -> bool {
        now.saturating_duration_since(self.since) >= limit.period
    }

    /// Begins another period if this one is over, and returns what was left out in it.
    fn end_period(&mut self, now: Instant, limit: Limit) -> Option<Missed> {
        if !self.is_over(now, limit) {
            return None;
        }
        let missed = self.missed(now);
        self.is_flooded = self.seen > limit.lines;
        (self.since, self.seen, self.left_out) = (now, 0, 0);
        missed
    }

    /// Counts a line, and returns whether it is written.
    fn admits_one_more(&mut self, limit: Limit) -> bool {
        let most = if self.is_flooded { 1 } else { limit.lines };
        self.seen += 1;
        let is_admitted = self.seen <= most;
        self.left_out += u64::from(!is_admitted);
        is_admitted
    }

    fn missed(&self, now: Instant) -> Option<Missed> {
        (self.left_out > 0).then(|| Missed {
            lines: self.left_out,
            within: now.saturating_duration_since(self.since),
        })
    }
}

impl Says {
    fn of(event: &Event<'_>) -> Self {
        let mut says = Self {
            metadata: event.metadata(),
            message: String::new(),
            reason: None,
        };
        event.record(&mut says);
        says
    }

    fn left_out(&self, Missed { lines, within }: &Missed) -> LeftOut {
        let (message, seconds) = (&self.message, within.as_secs_f64());
        LeftOut {
            metadata: self.metadata,
            message: format!("{message}: {lines} more in {seconds:.0} s"),
            reason: self.reason.clone(),
        }
    }
}

impl Visit for Says {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            MESSAGE => value.clone_into(&mut self.message),
            name if REASONS.contains(&name) => self.reason = Some((name, value.to_owned())),
            _ => {}
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == MESSAGE || REASONS.contains(&field.name()) {
            self.record_str(field, &format!("{value:?}"));
        }
    }
}

/// Finds the kind of an event.
#[derive(Default)]
struct Reasons {
    hash: DefaultHasher,
}

impl Visit for Reasons {
    fn record_str(&mut self, field: &Field, value: &str) {
        if REASONS.contains(&field.name()) {
            let _ = WithoutDigits(&mut self.hash).write_str(value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if REASONS.contains(&field.name()) {
            let _ = write!(WithoutDigits(&mut self.hash), "{value:?}");
        }
    }
}

struct WithoutDigits<'a>(&'a mut DefaultHasher);

impl Write for WithoutDigits<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let others = text.as_bytes().split(u8::is_ascii_digit);
        others.for_each(|part| self.0.write(part));
        Ok(())
    }
}

/// The fields that say why something failed.
const REASONS: [&str; 4] = ["refusal", "reason", "error", "problem"];

/// The name of an event that is an answer to a known client or guest, and no refusal.
pub(crate) const TO_SOMEBODY_KNOWN: &str = "answer to somebody known";

/// The target of what an operator must not miss.
const SECURITY: &str = "guestpass::security";

/// The kinds that are counted at the same time: there are fewer refusals and messages than that.
const MOST_KINDS: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f53_a_kind_is_said_some_times_and_then_counted_until_it_is_over() {
        let limit = Limit {
            lines: 3,
            period: Duration::from_secs(10),
        };
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut tally = Tally::first(start);
        let mut said = |from: u64, times: usize| {
            let missed = tally.end_period(at(from), limit);
            let admitted = (0..times).filter(|_| tally.admits_one_more(limit)).count();
            (missed, admitted)
        };
        assert_eq!(said(0, 2), (None, 2));
        assert_eq!(said(9, 4), (None, 0));
        // One of each period, for as long as it goes on.
        let missed = |lines, seconds| {
            let within = Duration::from_secs(seconds);
            Some(Missed { lines, within })
        };
        assert_eq!(said(10, 1000), (missed(4, 10), 1));
        assert_eq!(said(20, 3), (missed(999, 10), 1));
        assert_eq!(said(32, 4), (missed(2, 12), 3));
        assert_eq!(said(42, 1), (missed(1, 10), 1));
        assert_eq!(said(52, 2), (None, 2));
    }
}
