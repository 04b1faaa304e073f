//! Recording of events: whoever changes a guest draws the stamp of the event here, and hands it to the write that makes the change.

use std::sync::Arc;

use guestpass_core::event::{Event, EventId, EventStamp, EventType, UnlinkedBy};
use guestpass_core::profile::Profile;

use crate::app::App;
use crate::clock::SteadyClock;
use crate::metrics::EventResult;
use crate::random::Random;

/// Draws the stamps of events, if they are recorded.
#[derive(Clone)]
pub struct EventRecorder {
    clock: Arc<SteadyClock>,
    random: Arc<dyn Random>,
    records: bool,
}

impl EventRecorder {
    /// Makes a recorder, which draws no stamps unless it `records`: then nothing is recorded.
    #[must_use]
    pub fn new(records: bool, clock: Arc<SteadyClock>, random: Arc<dyn Random>) -> Self {
        Self {
            clock,
            random,
            records,
        }
    }

    /// Returns whether events are recorded.
    pub(crate) const fn records(&self) -> bool {
        self.records
    }

    /// Draws the stamp of an event whose change is about to be written.
    #[must_use]
    pub fn stamp(&self) -> Option<EventStamp> {
        self.records.then(|| EventStamp {
            id: EventId::from_bytes(self.random.bytes()),
            at: self.clock.now(),
        })
    }

    /// Makes the event of a link to the customer that the guest has now.
    pub(crate) fn linked(&self, guest: &Profile) -> Option<Box<Event>> {
        let link = guest.link.as_ref()?;
        Some(Box::new(Event::linked(self.stamp()?, guest, link)))
    }

    /// Makes the event of the end of the link that the guest has until now.
    pub(crate) fn unlinked(&self, guest: &Profile, by: UnlinkedBy) -> Option<Box<Event>> {
        let link = guest.link.as_ref()?;
        Some(Box::new(Event::unlinked(self.stamp()?, guest, link, by)))
    }
}

impl App {
    /// Counts an event that was recorded, if they are.
    pub(crate) fn count_recorded(&self, event_type: EventType) {
        if self.recorder.records {
            self.metrics.events.count(event_type, EventResult::Recorded);
        }
    }
}
