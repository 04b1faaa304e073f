//! The metrics of events and of guests who were forgotten.

use guestpass_core::event::EventType;
use guestpass_core::time::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Counters;
use crate::store::EventCounts;

/// Counts what became of events, and of guests whom nobody came back as.
pub(crate) struct EventMetrics {
    events: Counters<EventLabels>,
    waiting: Gauge,
    oldest: Gauge,
    dead: Gauge,
    guests_forgotten: Counters<Forgotten>,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct EventLabels {
    r#type: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Forgotten {
    linked: &'static str,
}

/// Names what became of an event.
#[derive(Clone, Copy, Debug)]
pub(crate) enum EventResult {
    /// It was recorded, by this node.
    Recorded,
    /// The receiver took it.
    Delivered,
    /// An attempt failed that wasn't the last.
    Failed,
    /// The last attempt failed.
    Dead,
}

impl EventResult {
    const fn name(self) -> &'static str {
        match self {
            Self::Recorded => "recorded",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Dead => "dead",
        }
    }
}

impl EventMetrics {
    /// Registers them.
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            events: Counters::register(
                registry,
                "events",
                "Events by type, and what became of them",
            ),
            waiting: Gauge::default(),
            oldest: Gauge::default(),
            dead: Gauge::default(),
            guests_forgotten: Counters::register(
                registry,
                "guests_forgotten",
                "Guests who were forgotten because nobody came back",
            ),
        };
        registry.register(
            "events_waiting",
            "Events that wait to be delivered, at most 10001; 0 but on the node that delivers",
            metrics.waiting.clone(),
        );
        registry.register(
            "events_oldest_seconds",
            "The age of the oldest of them, in seconds",
            metrics.oldest.clone(),
        );
        registry.register(
            "events_dead",
            "Events that could not be delivered and are not tried any more, at most 10001",
            metrics.dead.clone(),
        );
        metrics
    }

    pub(crate) fn count(&self, event_type: EventType, result: EventResult) {
        let (r#type, result) = (event_type.name(), result.name());
        self.events.inc(&EventLabels { r#type, result });
    }

    pub(crate) fn count_forgotten(&self, is_linked: bool) {
        let linked = if is_linked { "true" } else { "false" };
        self.guests_forgotten.inc(&Forgotten { linked });
    }

    /// Says how many events aren't delivered.
    pub(crate) fn note(&self, counts: EventCounts, now: Timestamp) {
        let number = |count| i64::try_from(count).unwrap_or(i64::MAX);
        self.waiting.set(number(counts.waiting));
        let oldest = counts.oldest.map_or(0, |at| now.since(at).as_secs());
        self.oldest.set(number(oldest));
        self.dead.set(number(counts.dead));
    }
}
