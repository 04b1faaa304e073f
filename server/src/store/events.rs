//! Events as the store keeps them: beside the guest, until they are delivered and after that for a while.

use std::time::Duration;

use guestpass_core::event::{Event, EventCursor, EventId};
use guestpass_core::profile::ProfileId;
use guestpass_core::time::Timestamp;

use super::{BoxFuture, Unavailable};

/// Lists events, for their delivery and for operators. Each is recorded by the write that makes its change.
pub trait Events: Send + Sync {
    /// Returns up to `limit` events whose delivery is due, the longest due first; those too that wait for a time so far ahead
    /// that only a wrong clock can have said so.
    fn due_events(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredEvent>, Unavailable>>;

    /// Returns up to `limit` events behind `after` that were recorded before a time, in the order of their times and ids.
    fn events_after(
        &self,
        which: WhichEvents,
        after: EventCursor,
        before: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredEvent>, Unavailable>>;

    /// Tells whether the server that was started last records events, for commands that change guests beside it.
    fn records_events(&self) -> BoxFuture<'_, Result<bool, Unavailable>>;

    /// Counts the events that wait and those that are dead, each up to `limit`.
    fn count_events(&self, limit: usize) -> BoxFuture<'_, Result<EventCounts, Unavailable>>;
}

/// Chooses events by what has become of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WhichEvents {
    /// All.
    All,
    /// The dead letters alone.
    Dead,
}

/// An event, and how far its delivery has come.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoredEvent {
    /// The event.
    pub event: Event,
    /// The attempts that have failed.
    pub attempts: u32,
    /// The state of its delivery.
    pub delivery: Delivery,
}

/// The state of an event's delivery.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Delivery {
    /// It is tried from that time on.
    Waiting(Timestamp),
    /// The receiver confirmed it at that time.
    Delivered(Timestamp),
    /// It is a dead letter: it isn't tried any more, unless an operator says so.
    Dead,
}

impl Delivery {
    /// Reads the columns `next_at` and `delivered_at`.
    pub(super) fn of(next_at: Option<i64>, delivered_at: Option<i64>) -> Self {
        match (next_at, delivered_at) {
            (_, Some(at)) => Self::Delivered(Timestamp::from_millis(at)),
            (Some(at), None) => Self::Waiting(Timestamp::from_millis(at)),
            (None, None) => Self::Dead,
        }
    }

    /// Returns the columns `next_at` and `delivered_at`.
    pub(super) fn columns(self) -> (Option<i64>, Option<i64>) {
        match self {
            Self::Waiting(at) => (Some(at.as_millis()), None),
            Self::Delivered(at) => (None, Some(at.as_millis())),
            Self::Dead => (None, None),
        }
    }
}

/// The time after which no delivery is put off, as the webhooks' pauses are.
pub(super) const NEVER_LATER: Duration = Duration::from_secs(2 * 3600);

/// The key of an event's row.
pub type EventKey = (ProfileId, EventId);

/// The numbers of events that aren't delivered.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct EventCounts {
    /// Those that wait to be delivered.
    pub waiting: u64,
    /// The time of the oldest of those that were counted.
    pub oldest: Option<Timestamp>,
    /// The dead letters.
    pub dead: u64,
}
