//! Webhooks: a background task that delivers events to the shop's receiver, by Standard Webhooks. Of many nodes, the one with
//! the lease does it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream::FuturesUnordered};
use guestpass_core::event::{Event, EventType};
use guestpass_core::time::Timestamp;

use crate::app::App;
use crate::lease::Leaseholder;
use crate::metrics::EventResult;
use crate::store::{Delivery, EventCounts, Lease, StoredEvent, Unavailable, Write};

mod receiver;
mod signature;

pub use receiver::{NotDelivered, Receiver};
pub use signature::{Secrets, new_secret};

/// Delivers what is due, a second after the last look. An event is due when it was recorded, and again after each failure,
/// later each time (`delay`); it is dead when an attempt fails that begins three days after its time.
///
/// Delivery is at least once and in no order: whoever dies between the answer and the write delivers again, and so does
/// who has lost the lease without knowing.
pub struct Deliverer {
    app: Arc<App>,
    receiver: Arc<Receiver>,
    lease: Leaseholder,
    counted_at: Option<Timestamp>,
    /// Holds what the store couldn't be told of deliveries. Until it is, nothing more is sent, or it would be sent again.
    unnoted: Vec<Write>,
}

/// The result of one step.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// Everything that was due was tried.
    Tried {
        /// The events that were delivered.
        delivered: usize,
        /// Those that were not.
        failed: usize,
    },
    /// The clock is in doubt, so it can't be told what is due.
    ClockDoubted,
    /// Another node has the lease.
    Elsewhere,
}

impl Deliverer {
    /// Makes a deliverer of the events behind `app`.
    #[must_use]
    pub fn new(app: Arc<App>, receiver: Receiver) -> Self {
        let lease = Leaseholder::new(Lease::Deliverer, app.node.clone(), LEASE, RENEWED_WITH);
        Self {
            app,
            receiver: Arc::new(receiver),
            lease,
            counted_at: None,
            unnoted: Vec::new(),
        }
    }

    /// Tries what is due now, at most a hundred events, a few at once.
    ///
    /// # Errors
    /// [`Unavailable`] if the store can't answer, or sheds this work under load: it has the lowest priority.
    pub async fn step(&mut self) -> Result<Step, Unavailable> {
        if self.app.clock.is_doubted() {
            return Ok(Step::ClockDoubted);
        }
        let now = self.app.clock.now();
        if !self.lease.hold(&*self.app.grants, now).await? {
            self.leave_off(now);
            return Ok(Step::Elsewhere);
        }
        while let Some(note) = self.unnoted.last() {
            self.app.grants.write(note.clone()).await?;
            self.unnoted.pop();
        }
        self.count(now).await?;
        let due = self.app.events.due_events(now, DUE_AT_ONCE).await?;
        let mut tried = Tried::default();
        let mut under_way = FuturesUnordered::new();
        for event in due {
            if under_way.len() == UNDER_WAY
                && let Some(done) = under_way.next().await
            {
                tried.note(done);
            }
            // What is slow may take longer than the lease; and what can't be noted would be sent again.
            let now = self.app.clock.now();
            let may_go_on = match &tried.failure {
                Some(_) => false,
                None => match self.lease.hold(&*self.app.grants, now).await {
                    Ok(is_held) => is_held,
                    Err(error) => {
                        tried.failure = Some(error);
                        false
                    }
                },
            };
            if !may_go_on {
                break;
            }
            under_way.push(deliver(&self.app, &self.receiver, event));
        }
        while let Some(done) = under_way.next().await {
            tried.note(done);
        }
        self.unnoted = tried.unnoted;
        match tried.failure {
            Some(error) => Err(error),
            None => Ok(Step::Tried {
                delivered: tried.delivered,
                failed: tried.failed,
            }),
        }
    }

    /// Counts what isn't delivered, now and then.
    async fn count(&mut self, now: Timestamp) -> Result<(), Unavailable> {
        let is_recent = |at: Timestamp| at <= now && now < at + COUNT_EVERY;
        if !self.counted_at.is_some_and(is_recent) {
            let counts = self.app.events.count_events(COUNTED_AT_MOST).await?;
            self.app.metrics.events.note(counts, now);
            self.counted_at = Some(now);
        }
        Ok(())
    }

    /// Leaves the counts to the node that delivers.
    fn leave_off(&mut self, now: Timestamp) {
        if self.counted_at.take().is_some() {
            self.app.metrics.events.note(EventCounts::default(), now);
        }
    }

    /// Steps for ever.
    pub async fn run(mut self) {
        loop {
            let pause = match self.step().await {
                Ok(Step::Tried { delivered, failed }) if delivered + failed == DUE_AT_ONCE => {
                    Duration::ZERO
                }
                Ok(Step::Elsewhere) => WHILE_ELSEWHERE,
                Ok(Step::Tried { .. } | Step::ClockDoubted) => BETWEEN_LOOKS,
                Err(error) => {
                    tracing::warn!(error = %error, "the delivery of events waits");
                    AFTER_ERROR
                }
            };
            tokio::time::sleep(pause).await;
        }
    }
}

/// Adds up what became of the events of a step.
#[derive(Default)]
struct Tried {
    delivered: usize,
    failed: usize,
    unnoted: Vec<Write>,
    failure: Option<Unavailable>,
}

impl Tried {
    fn note(&mut self, (is_delivered, unnoted): (bool, Option<(Write, Unavailable)>)) {
        match is_delivered {
            true => self.delivered += 1,
            false => self.failed += 1,
        }
        if let Some((write, failure)) = unnoted {
            self.unnoted.push(write);
            self.failure.get_or_insert(failure);
        }
    }
}

/// Tries to deliver an event, and says in the store what became of it. Returns whether it was delivered, and what the store
/// couldn't be told.
async fn deliver(
    app: &App,
    receiver: &Receiver,
    stored: StoredEvent,
) -> (bool, Option<(Write, Unavailable)>) {
    let StoredEvent {
        event, attempts, ..
    } = stored;
    let client = event
        .client
        .and_then(|number| app.clients.by_number(number));
    let body = event.message(client.as_ref().map(|client| &client.id));
    let began = app.clock.now();
    let sent = receiver.send(event.id, began, body).await;
    let now = app.clock.now();
    let key = (event.guest, event.id);
    let (note, result) = match &sent {
        // Of an erased guest nothing is kept that isn't needed.
        Ok(_) if event.event_type == EventType::GuestErased => {
            (Write::RemoveEvents(vec![key]), EventResult::Delivered)
        }
        Ok(_) => {
            let delivered = Delivery::Delivered(now);
            let note = Write::NoteDelivery(key, attempts, delivered);
            (note, EventResult::Delivered)
        }
        Err(failed) => {
            let attempts = attempts.saturating_add(1);
            let is_last = event.at + GIVE_UP_AFTER <= began;
            let (delivery, result) = match is_last {
                true => (Delivery::Dead, EventResult::Dead),
                false => {
                    let jitter = u16::from_be_bytes(app.random.bytes());
                    let pause = delay(attempts - 1, jitter).max(failed.retry_after().min(LONGEST));
                    (Delivery::Waiting(now + pause), EventResult::Failed)
                }
            };
            log_failure(&event, attempts, delivery, &failed.problem);
            (Write::NoteDelivery(key, attempts, delivery), result)
        }
    };
    app.metrics.events.count(event.event_type, result);
    let unnoted = app.grants.write(note.clone()).await.err();
    (sent.is_ok(), unnoted.map(|failure| (note, failure)))
}

fn log_failure(event: &Event, attempts: u32, delivery: Delivery, problem: &str) {
    let r#type = event.event_type.name();
    if delivery == Delivery::Dead {
        tracing::error!(
            event.id = %event.id, event.r#type = r#type, attempts, problem,
            "an event could not be delivered for three days and is not tried any more: see guestpass events --dead, and once the \
             receiver answers guestpass events retry"
        );
    } else {
        tracing::warn!(
            event.id = %event.id, event.r#type = r#type, attempts, problem,
            "an event could not be delivered, and is tried again"
        );
    }
}

impl NotDelivered {
    fn retry_after(&self) -> Duration {
        self.retry_after.unwrap_or_default()
    }
}

/// Returns the pause after a failure, when so many attempts had failed before: longer each time, and up to a fifth shorter or
/// longer by a random number, so that what failed together isn't tried together.
fn delay(failed_before: u32, random: u16) -> Duration {
    let step = usize::try_from(failed_before).unwrap_or(usize::MAX);
    let pause = DELAYS.get(step).copied().unwrap_or(LONGEST);
    pause * 4 / 5 + pause * 2 / 5 * u32::from(random) / u32::from(u16::MAX)
}

/// The pauses after the first failures.
const DELAYS: [Duration; 4] = [
    Duration::from_secs(5),
    Duration::from_secs(60),
    Duration::from_secs(300),
    Duration::from_secs(1800),
];
/// The pause after all others, and the longest that a receiver may ask for.
const LONGEST: Duration = Duration::from_secs(3600);
/// The age of an event whose next failure is its last.
const GIVE_UP_AFTER: Duration = Duration::from_secs(3 * 86_400);
/// The time that a receiver has to answer.
pub const DEADLINE: Duration = Duration::from_secs(15);
/// The deliveries that are under way at once.
const UNDER_WAY: usize = 8;
const DUE_AT_ONCE: usize = 100;
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);
/// The pause of a node that another one has the lease before.
const WHILE_ELSEWHERE: Duration = Duration::from_secs(10);
const AFTER_ERROR: Duration = Duration::from_secs(5);
const COUNT_EVERY: Duration = Duration::from_secs(10);
/// Bounds how far what waits or is dead is counted: to one more than this; a count that stands there says that there are more.
const COUNTED_AT_MOST: usize = 10_001;
const LEASE: Duration = Duration::from_secs(30);
/// The rest of a lease with which it is renewed: more than the deadline of a delivery.
const RENEWED_WITH: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_grows_to_an_hour_and_is_a_fifth_shorter_or_longer() {
        for (failed_before, seconds) in
            [(0, 5), (1, 60), (2, 300), (3, 1800), (4, 3600), (99, 3600)]
        {
            let pause = Duration::from_secs(seconds);
            assert_eq!(delay(failed_before, 0), pause * 4 / 5);
            assert_eq!(delay(failed_before, u16::MAX), pause * 6 / 5);
        }
    }
}
