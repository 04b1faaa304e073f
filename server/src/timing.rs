//! The times that constrain each other across modules, with an assertion for each relation: a change that breaks one
//! doesn't compile. A time that concerns one file alone stands in that file.

use std::time::Duration;

use crate::clock::MAX_SKEW;

/// The interval at which a node polls the store for what operators and other nodes have changed.
/// Long enough that the polls of a whole cluster are no load.
pub(crate) const FOLLOW_EVERY: Duration = Duration::from_millis(500);
const _: () = assert!(
    at_most(times(FOLLOW_EVERY, 2), Duration::from_secs(1)),
    "a change is followed within a second, even if one poll fails"
);

/// The time for which a readiness check is good. A check costs a write to the database and one beside the journal, and
/// whoever balances load asks often.
pub(crate) const READINESS_GOOD_FOR: Duration = Duration::from_secs(1);
const _: () = assert!(
    less(
        READINESS_GOOD_FOR.saturating_add(FOLLOW_EVERY),
        Duration::from_secs(2)
    ),
    "whoever asks two seconds after the storage has failed, or has recovered, is told"
);

/// Upper bound on the time after which every node that reaches the store has polled it, for an operator in a hurry (a
/// forced rotation), and for a node that meets a key that it doesn't know.
pub(crate) const SEEN: Duration = Duration::from_secs(2);
const _: () = assert!(
    at_most(times(FOLLOW_EVERY, 4), SEEN),
    "every node polls four times within SEEN, so that three of them may fail"
);

/// The same bound for whatever isn't urgent: a key is first used when it has been published for this long. Generous,
/// because a node that hasn't seen the key by then refuses what it signs or seals.
pub(crate) const FOLLOWED: Duration = Duration::from_secs(5);
const _: () = assert!(
    at_most(times(SEEN, 2), FOLLOWED),
    "FOLLOWED leaves a second chance to whoever was late for SEEN"
);

/// The least `verify.max_staleness` that an operator may choose: with less, a poll or two that fail would make
/// `/oauth/verify` unavailable.
pub(crate) const MIN_STALENESS: Duration = Duration::from_secs(2);
const _: () = assert!(
    at_most(times(FOLLOW_EVERY, 4), MIN_STALENESS),
    "the revocation filter is polled four times before it counts as stale"
);

/// The time from the end of a request's header to the end of its body.
pub(crate) const ARRIVAL_DEADLINE: Duration = Duration::from_secs(10);

/// The time from [`ARRIVAL_DEADLINE`] to the answer. It is longer than the store waits for anything, so that what the
/// store says is what the client hears.
pub(crate) const ANSWER_DEADLINE: Duration = Duration::from_secs(10);

/// The longest time from a request's header to its answer.
pub(crate) const REQUEST_DEADLINE: Duration = ARRIVAL_DEADLINE.saturating_add(ANSWER_DEADLINE);

/// The time that SQLite waits for another process that writes, such as the command line beside a server.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

const _: () = assert!(
    less(BUSY_TIMEOUT, ANSWER_DEADLINE),
    "a write that has waited for another process is still answered"
);

/// The time after which a write that still waits in the queue to the store is refused instead of carried out: it was
/// decided on what was true when it came, and its caller may have been told that it failed.
pub(crate) const STALE: Duration = Duration::from_secs(5);
const _: () = assert!(
    less(STALE, ANSWER_DEADLINE),
    "a write that is refused for its age is refused before its request's deadline"
);

/// The time after which PostgreSQL gives a statement up (`statement_timeout`).
pub(crate) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);

/// The time after which a statement without an answer counts as lost.
pub(crate) const STATEMENT_DEADLINE: Duration = Duration::from_secs(6);
const _: () = assert!(
    less(STATEMENT_TIMEOUT, STATEMENT_DEADLINE),
    "the database gives up first and says so, so that the outcome is known"
);
const _: () = assert!(
    less(STATEMENT_DEADLINE, ANSWER_DEADLINE),
    "a client is told of a statement that was lost"
);

/// The time that requests under way have when the server leaves: all that one may take, and some for the client to take
/// the answer. Service managers must wait for longer: systemd does so by default, container engines must be told.
pub(crate) const DRAIN: Duration = Duration::from_secs(25);
const _: () = assert!(
    less(REQUEST_DEADLINE, DRAIN),
    "what is under way when the server leaves is answered"
);

/// The time that tasks without a client have at the end: the rest of a handler whose client has gone, the second pass of
/// an erasure.
pub(crate) const LAST_TASKS: Duration = Duration::from_secs(5);
const _: () = assert!(
    at_most(STALE, LAST_TASKS),
    "what is in the queue at the end of the drain is carried out or refused"
);

/// The time after which a change is sure to be known everywhere: it covers what clocks may differ by and the longest
/// that a write may be under way. A key is kept this much longer than what it signed or sealed, and each poll of the
/// revocation lists reads this much of the past once more.
pub(crate) const SETTLING: Duration = Duration::from_secs(60);
const _: () = assert!(
    at_most(
        times(MAX_SKEW, 2).saturating_add(REQUEST_DEADLINE),
        SETTLING
    ),
    "two clocks that are off in opposite directions and a request as slow as may be are covered"
);
const _: () = assert!(
    at_most(times(MAX_SKEW, 2).saturating_add(FOLLOWED), SETTLING),
    "two clocks that are off in opposite directions and a node that follows late are covered"
);

const fn times(duration: Duration, factor: u32) -> Duration {
    duration.saturating_mul(factor)
}

const fn at_most(left: Duration, right: Duration) -> bool {
    left.as_nanos() <= right.as_nanos()
}

const fn less(left: Duration, right: Duration) -> bool {
    left.as_nanos() < right.as_nanos()
}
