//! A store whose queue is full for as long as a test wants.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, mpsc};
use std::task::Poll;
use std::time::{Duration, Instant};

use guestpass::clock::Clock;
use guestpass::store::{
    BoxFuture, EndedBefore, Outcome, Proof, Redeemed, Redemption, Store, Unavailable, Write,
};
use guestpass_core::client::ClientNumber;
use guestpass_core::grant::{Generation, Grant, GrantId, Revocation, RevocationReason};
use guestpass_core::pkce::{Challenge, Verifier};
use guestpass_core::policy::Policy;
use guestpass_core::profile::{NetworkId, Profile, ProfileId};
use guestpass_core::time::Timestamp;

use crate::deadlines::LOCK_TIMEOUT;
use crate::support::binary::PATIENCE;
use crate::support::{FakeClock, TestApp, VERIFIER};

/// A store that can't write, because a redemption is being decided on and the clock doesn't say what time it is. So its
/// queue fills, for as long as the test wants.
pub(super) struct Jam<'a> {
    pub(super) store: &'a dyn Store,
    held: BoxFuture<'a, Result<Option<Redeemed>, Unavailable>>,
    /// Lets the clock go on when it is dropped.
    clock: mpsc::Sender<()>,
    since: Instant,
    waiting: Vec<Job<'a>>,
}

pub(super) type Job<'a> = BoxFuture<'a, Result<(), Unavailable>>;

/// A clock that says when it is asked, and answers when the other end is dropped.
struct HeldClock {
    asked: mpsc::Sender<()>,
    answer: Mutex<mpsc::Receiver<()>>,
}

impl Clock for HeldClock {
    fn now(&self) -> Timestamp {
        let _ = self.asked.send(());
        // On PostgreSQL this is a thread of the runtime, whose other tasks go on.
        tokio::task::block_in_place(|| {
            let _ = self.answer.lock().unwrap().recv();
        });
        Timestamp::from_millis(0)
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

impl<'a> Jam<'a> {
    /// Fills the queue until there is no room for cleaning.
    pub(super) async fn start(test: &'a TestApp) -> Self {
        let store = &*test.store;
        assert_eq!(store.write(new_guest()).await.unwrap(), Outcome::Done);
        let ((asked, is_asked), (clock, answer)) = (mpsc::channel(), mpsc::channel());
        let answer = Mutex::new(answer);
        let redemption = Redemption {
            grant: nobody(),
            proof: Proof::RefreshToken(Generation::CODE),
            // Not the one it belongs to, so this is refused.
            client: ClientNumber(1000),
            policy: Arc::default(),
            clock: Arc::new(HeldClock { asked, answer }),
        };
        let mut held = store.redeem(redemption);
        let begun = poll_fn(|context| Poll::Ready(held.as_mut().poll(context)));
        assert!(begun.await.is_pending());
        // From here on the store takes nothing from its queue.
        tokio::task::block_in_place(|| is_asked.recv_timeout(PATIENCE).unwrap());
        let mut jam = Jam {
            store,
            held,
            clock,
            since: Instant::now(),
            waiting: Vec::new(),
        };
        let remove_nothing = |store| {
            written(
                store,
                Write::RemoveEnded(Vec::new(), EndedBefore::all(test.clock.now())),
            )
        };
        assert_eq!(jam.fill(remove_nothing).await, ROOM_FOR_CLEANING);
        jam
    }

    /// Queues one job after the other until one is refused, and answers how many were taken.
    pub(super) async fn fill(&mut self, job: impl Fn(&'a dyn Store) -> Job<'a>) -> usize {
        let before = self.waiting.len();
        while self.queue(job(self.store)).await {}
        self.waiting.len() - before
    }

    /// Queues a job. `false` if it was refused.
    pub(super) async fn queue(&mut self, mut job: Job<'a>) -> bool {
        match poll_fn(|context| Poll::Ready(job.as_mut().poll(context))).await {
            Poll::Pending => {
                self.waiting.push(job);
                true
            }
            Poll::Ready(answer) => {
                answer.expect_err("nothing can be written");
                false
            }
        }
    }

    /// Lets the store write all that is waiting. Returns `true` if that has waited for so long that PostgreSQL's queue may
    /// refuse it for its age (`timing::STALE`), as it may on a busy machine.
    pub(super) async fn release(self) -> bool {
        drop(self.clock);
        self.held.await.unwrap();
        let mut refused = 0;
        for job in self.waiting {
            refused += usize::from(job.await.is_err());
        }
        let is_late = self.since.elapsed() > LOCK_TIMEOUT;
        assert!(is_late || refused == 0, "{refused} were refused");
        is_late
    }
}

pub(super) fn written(store: &dyn Store, write: Write) -> Job<'_> {
    Box::pin(async move { store.write(write).await.map(drop) })
}

/// Redeems the code of nobody.
pub(super) fn redemption<'a>(store: &'a dyn Store, clock: &Arc<FakeClock>) -> Job<'a> {
    let redemption = Redemption {
        grant: nobody(),
        proof: Proof::Code(Verifier::parse(VERIFIER).unwrap()),
        client: ClientNumber(1),
        policy: Arc::default(),
        clock: clock.clone(),
    };
    Box::pin(async move { store.redeem(redemption).await.map(drop) })
}

/// A quarter of the queue.
const ROOM_FOR_CLEANING: usize = 256;

/// The same guest each time, with a code from long ago: one is inserted, the others conflict.
pub(super) fn new_guest() -> Write {
    let now = Timestamp::from_millis(0);
    let grant = Grant::issue(
        nobody(),
        ClientNumber(1),
        NetworkId::from_bytes([0; 16]),
        Challenge::from_bytes([0; 32]),
        &Policy::default(),
        now,
    );
    let profile = Profile::new(grant.id.profile, grant.network_id, grant.client, now);
    Write::InsertGuest(profile, grant)
}

pub(super) fn revocation() -> Write {
    let at = Timestamp::from_millis(0);
    Write::RevokeGrant(
        nobody(),
        Revocation {
            at,
            reason: RevocationReason::Contested,
        },
        None,
    )
}

/// A grant that no guest of a test has.
fn nobody() -> GrantId {
    GrantId::new(ProfileId::from_i64(1).unwrap(), [0; 8])
}
