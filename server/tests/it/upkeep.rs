//! Cleaning up, and what has to wait when there is more to write than the disk takes.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, mpsc};
use std::task::Poll;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use guestpass::clock::Clock;
use guestpass::keys::{Key, KeyState, KeyUse};
use guestpass::store::{
    BoxFuture, Outcome, Proof, Redeemed, Redemption, Store, Unavailable, Write,
};
use guestpass::upkeep::{Cleaner, Step};
use guestpass_core::client::ClientNumber;
use guestpass_core::grant::{Generation, Grant, GrantId, Revocation, RevocationReason};
use guestpass_core::pkce::{Challenge, Verifier};
use guestpass_core::policy::Policy;
use guestpass_core::profile::{NetworkId, Profile, ProfileId};
use guestpass_core::time::Timestamp;
use tokio::task::JoinSet;

use crate::deadlines::LOCK_TIMEOUT;
use crate::support::binary::PATIENCE;
use crate::support::{
    FakeClock, SHOP, Sent, TestApp, VERIFIER, authorize, config, exchange, refresh,
};

const MILLISECOND: Duration = Duration::from_millis(1);
const DAY: Duration = Duration::from_secs(86_400);

#[tokio::test]
async fn an_orphan_goes_seven_days_after_its_code_has_expired() {
    let test = TestApp::new().await;
    let mut cleaner = cleaner(&test);
    test.code(SHOP).await;
    test.clock.advance(Policy::default().code_ttl + 7 * DAY);
    assert_eq!(walk(&mut cleaner).await, 0);
    assert_eq!(test.counts().await, (1, 1));
    test.clock.advance(MILLISECOND);
    assert_eq!(walk(&mut cleaner).await, 1);
    assert_eq!(test.counts().await, (0, 0));
}

#[tokio::test]
async fn an_ended_grant_goes_seven_days_after_its_end_and_its_guest_stays() {
    let short = Policy {
        refresh_max: 20 * DAY,
        ..Policy::default()
    };
    for (how, policy, lives) in [
        ("unused", Policy::default(), Policy::default().refresh_idle),
        ("at its absolute end", short, 20 * DAY),
        ("revoked", Policy::default(), Duration::ZERO),
    ] {
        let test = TestApp::with_policy(policy).await;
        let mut cleaner = cleaner(&test);
        let code = test.code(SHOP).await;
        test.granted(exchange(&code)).await;
        if how == "revoked" {
            test.send(exchange(&code)).await;
        }
        test.clock.advance(lives + 7 * DAY);
        assert_eq!(walk(&mut cleaner).await, 0, "{how}");
        test.clock.advance(MILLISECOND);
        assert_eq!(walk(&mut cleaner).await, 1, "{how}");
        assert_eq!(test.counts().await, (1, 0), "{how}");
    }
}

#[tokio::test]
async fn a_live_grant_stays() {
    let test = TestApp::new().await;
    let mut cleaner = cleaner(&test);
    let (mut used, _unused) = (test.guest().await, test.guest().await);
    for removed in [0, 1, 0] {
        test.clock.advance(300 * DAY);
        assert_eq!(walk(&mut cleaner).await, removed);
        used = test.granted(refresh(&used.refresh_token)).await;
    }
    assert_eq!(test.count("grants").await, 1);
}

#[tokio::test]
async fn a_walk_goes_in_parts_and_the_next_one_starts_again() {
    let test = TestApp::new().await;
    let mut cleaner = cleaner(&test);
    for _ in 0..501 {
        test.guest().await;
    }
    // Behind all the others in the order of keys.
    test.clock.advance(MILLISECOND);
    test.code(SHOP).await;
    test.clock.advance(8 * DAY);
    for expected in [Step::Scanned { removed: 0 }, Step::Finished { removed: 1 }] {
        assert_eq!(cleaner.step().await.unwrap(), expected);
    }
    test.clock.advance(Policy::default().refresh_idle);
    for expected in [
        Step::Scanned { removed: 500 },
        Step::Finished { removed: 1 },
    ] {
        assert_eq!(cleaner.step().await.unwrap(), expected);
    }
    assert_eq!(test.counts().await, (501, 0));
}

#[tokio::test]
async fn a_cleaning_that_failed_is_done_by_the_next_pass() {
    let test = TestApp::new().await;
    let mut cleaner = cleaner(&test);
    test.code(SHOP).await;
    test.clock.advance(8 * DAY);
    test.sql(
        "create table stuck (profile_id bigint references profiles (profile_id));
         insert into stuck select profile_id from profiles",
    )
    .await;
    for _ in 0..2 {
        cleaner.step().await.unwrap_err();
        assert_eq!(test.counts().await, (1, 1));
    }
    test.sql("drop table stuck").await;
    assert_eq!(cleaner.step().await.unwrap(), Step::Finished { removed: 1 });
    assert_eq!(test.counts().await, (0, 0));
}

#[tokio::test]
async fn nothing_is_removed_while_the_clock_is_wrong() {
    let test = TestApp::new().await;
    test.code(SHOP).await;
    let mut cleaner = cleaner(&test);
    let days = |days: i64| days * 86_400_000;

    test.clock.jump(days(30));
    assert_eq!(
        cleaner.step().await.unwrap(),
        Step::Finished { removed: 0 },
        "not even before anybody has looked"
    );
    for jump in [0, days(-60)] {
        test.clock.jump(jump);
        test.app.follow().await;
        test.clock.advance_secs(600);
        test.app.follow().await;
        assert_eq!(cleaner.step().await.unwrap(), Step::ClockDoubted, "{jump}");
    }
    assert_eq!(test.count("grants").await, 1);

    test.clock.jump(days(30));
    test.app.follow().await;
    assert_eq!(
        cleaner.step().await.unwrap(),
        Step::Finished { removed: 0 },
        "twenty minutes have passed"
    );
    // As a time server corrects it.
    test.clock.jump(4_000);
    test.app.follow().await;
    test.clock.advance(8 * DAY);
    assert_eq!(cleaner.step().await.unwrap(), Step::Finished { removed: 1 });
}

#[tokio::test]
async fn no_key_is_given_up_while_the_clock_is_wrong() {
    let test = TestApp::new().await;
    test.clock.advance_secs(60);
    let rotate = test
        .app
        .keys()
        .rotate(KeyUse::AccessToken, test.clock.now(), true);
    assert!(rotate.await.unwrap());
    let mut cleaner = cleaner(&test);
    let mut step = async || cleaner.step().await.unwrap();
    test.clock.jump(30 * 86_400_000);
    test.app.follow().await;
    step().await;
    assert_eq!(retiring(&test), 1);
    test.clock.jump(-30 * 86_400_000);
    test.app.follow().await;
    test.clock.advance(DAY);
    step().await;
    assert_eq!(retiring(&test), 1, "something that it signed may live");
    test.clock.advance_secs(60);
    step().await;
    assert_eq!(retiring(&test), 0);
}

fn retiring(test: &TestApp) -> usize {
    let keys = test.app.keys().now();
    let retiring = |key: &&Key| key.state() == KeyState::Retiring;
    keys.list().iter().filter(retiring).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_refuses_cleaning_first_then_new_guests_then_codes_then_refreshes() {
    // PostgreSQL has one write under way, so that one redemption keeps all others in the queue.
    let one_by_one = config(&[("postgres.batch", "1"), ("postgres.connections", "2")]);
    let test = Arc::new(TestApp::with_config(one_by_one).await);
    let mut cleaner = cleaner(&test);
    test.code(SHOP).await;
    test.clock.advance(8 * DAY);
    let code = test.code(SHOP).await;
    let guests = [test.guest().await, test.guest().await];

    let mut jam = Jam::start(&test).await;
    cleaner.step().await.unwrap_err();

    let guests_taken = jam.fill(|store| written(store, new_guest())).await;
    assert!(guests_taken > 0, "guests are taken when cleaning isn't");
    unavailable(&test, authorize()).await;

    let codes_taken = jam.fill(|store| redemption(store, &test.clock)).await;
    assert!(codes_taken > 0, "codes are taken when guests aren't");
    unavailable(&test, exchange(&code)).await;

    // Refreshes are taken to the last place in the queue. There is as much room for them alone as there was for codes
    // alone; of two, one gets the last place.
    for _ in 1..codes_taken {
        assert!(
            jam.queue(written(jam.store, revocation())).await,
            "refreshes are taken when codes aren't"
        );
    }
    let mut refreshes = JoinSet::new();
    for guest in &guests {
        let (test, refresh) = (Arc::clone(&test), refresh(&guest.refresh_token));
        refreshes.spawn(async move { test.send(refresh).await });
    }
    let refused = refreshes.join_next().await.unwrap().unwrap();
    assert_eq!(
        refused.status,
        StatusCode::SERVICE_UNAVAILABLE,
        "{refused:?}"
    );
    // A token that is refused anyway isn't looked at.
    unavailable(&test, refresh("forged")).await;
    let is_late = jam.release().await;
    let taken = refreshes.join_next().await.unwrap().unwrap();
    assert!(is_late || taken.status == StatusCode::OK, "{taken:?}");

    // All that were refused lost nothing by it.
    for guest in &guests {
        test.granted(refresh(&guest.refresh_token)).await;
    }
    test.granted(exchange(&code)).await;
    test.code(SHOP).await;
    let both_orphans = Step::Finished { removed: 2 };
    assert_eq!(cleaner.step().await.unwrap(), both_orphans);
}

/// A cleaner that trusts the clock as it is now.
fn cleaner(test: &TestApp) -> Cleaner {
    Cleaner::new(&test.app, 10 * 365 * DAY)
}

/// Walks to the end, and answers how many grants were removed.
async fn walk(cleaner: &mut Cleaner) -> usize {
    let mut removed = 0;
    for _ in 0..100 {
        match cleaner.step().await.unwrap() {
            Step::Scanned { removed: some } => removed += some,
            Step::Finished { removed: some } => return removed + some,
            Step::ClockDoubted | Step::Elsewhere => panic!("this cleaner must not clean"),
        }
    }
    panic!("the walk has no end");
}

/// Sends a request that must be put off, with no change to any row.
async fn unavailable(test: &TestApp, request: Sent) {
    let before = test.rows().await;
    let answer = test.send(request).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
    assert_eq!(test.rows().await, before);
}

/// A store that can't write, because a redemption is being decided on and the clock doesn't say what time it is. So its
/// queue fills, for as long as the test wants.
struct Jam<'a> {
    store: &'a dyn Store,
    held: BoxFuture<'a, Result<Option<Redeemed>, Unavailable>>,
    /// Lets the clock go on when it is dropped.
    clock: mpsc::Sender<()>,
    since: Instant,
    waiting: Vec<Job<'a>>,
}

type Job<'a> = BoxFuture<'a, Result<(), Unavailable>>;

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
    async fn start(test: &'a TestApp) -> Self {
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
        let remove_nothing =
            |store| written(store, Write::RemoveEnded(Vec::new(), test.clock.now()));
        assert_eq!(jam.fill(remove_nothing).await, ROOM_FOR_CLEANING);
        jam
    }

    /// Queues one job after the other until one is refused, and answers how many were taken.
    async fn fill(&mut self, job: impl Fn(&'a dyn Store) -> Job<'a>) -> usize {
        let before = self.waiting.len();
        while self.queue(job(self.store)).await {}
        self.waiting.len() - before
    }

    /// Queues a job. `false` if it was refused.
    async fn queue(&mut self, mut job: Job<'a>) -> bool {
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
    async fn release(self) -> bool {
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

fn written(store: &dyn Store, write: Write) -> Job<'_> {
    Box::pin(async move { store.write(write).await.map(drop) })
}

/// Redeems the code of nobody.
fn redemption<'a>(store: &'a dyn Store, clock: &Arc<FakeClock>) -> Job<'a> {
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
fn new_guest() -> Write {
    let now = Timestamp::from_millis(0);
    let grant = Grant::issue(
        nobody(),
        ClientNumber(1),
        NetworkId::from_bytes([0; 16]),
        Challenge::from_bytes([0; 32]),
        &Policy::default(),
        now,
    );
    let profile = Profile {
        id: grant.id.profile,
        network_id: grant.network_id,
        client: grant.client,
        created_at: now,
    };
    Write::InsertGuest(profile, grant)
}

fn revocation() -> Write {
    let at = Timestamp::from_millis(0);
    Write::RevokeGrant(
        nobody(),
        Revocation {
            at,
            reason: RevocationReason::Contested,
        },
    )
}

/// A grant that no guest of a test has.
fn nobody() -> GrantId {
    GrantId::new(ProfileId::from_i64(1).unwrap(), [0; 8])
}
