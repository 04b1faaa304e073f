//! Redemptions: read, decide, write, with others in between.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use guestpass::clock::Clock;
use guestpass::store::{Redeemed, Redemption};
use guestpass_core::client::ClientNumber;
use guestpass_core::grant::{Decision, Generation, Grant, MAX_STRIKES};
use guestpass_core::profile::Profile;
use guestpass_core::time::Timestamp;
use tokio::runtime::Runtime;
use tokio_postgres::NoTls;

use crate::store_contract::{Store, advance, advanced, at, guest};
use crate::support::Database;

pub(crate) async fn a_redemption_is_decided_on_the_row_and_written(store: &Store) {
    let (profile, code) = guest(1);
    store.insert(&(profile, code.clone())).await;
    assert!(store.advance(&code).await);
    let before = advanced(&code);
    let now = at(2_000);
    let redeemed = store
        .refresh(&before, before.generation, now)
        .await
        .unwrap();
    assert_eq!((&redeemed.read, redeemed.at), (&before, now));
    let Decision::Advance(after) = redeemed.decision else {
        panic!("{redeemed:?}");
    };
    assert_eq!(
        (after.generation, after.proven, after.advanced_at),
        (before.generation.next(), before.generation, now)
    );
    assert_eq!(store.load(code.id).await, Some(after));
    assert!(
        store
            .refresh(&guest(2).1, Generation::CODE.next(), now)
            .await
            .is_none()
    );
}

pub(crate) async fn a_redemption_that_is_refused_changes_nothing(store: &Store) {
    let (profile, code) = guest(1);
    store.insert(&(profile, code.clone())).await;
    assert!(store.advance(&code).await);
    let grant = advanced(&code);
    let other_client = Grant {
        client: ClientNumber(2),
        ..grant.clone()
    };
    let first = grant.generation;
    let refused = [
        store.refresh(&other_client, first, at(2_000)).await,
        store.refresh(&grant, first, at(500_000)).await,
        store
            .refresh(&grant, Generation::CODE, at(500_000_000))
            .await,
    ];
    for redeemed in refused {
        let redeemed = redeemed.unwrap();
        assert!(
            matches!(redeemed.decision, Decision::Refuse(_)),
            "{redeemed:?}"
        );
    }
    assert_eq!(store.load(code.id).await, Some(grant));
}

/// Changes the row between the read and the write, if the store lets it: whoever was overtaken decides
/// once more. Redemptions that come together are written in another way than one that comes alone.
pub(crate) async fn nothing_is_written_over_what_others_wrote_since_the_read(store: &Store) {
    const TOGETHER: u8 = 3;
    let changes = [
        "revoked_at = 0, revocation_reason = 'contested'",
        "generation = generation + 1",
        "strikes = 5",
    ];
    let mut numbers = 1..;
    for change in changes {
        for together in [1, TOGETHER] {
            let guests: Vec<_> = numbers.by_ref().take(together.into()).map(guest).collect();
            for guest in &guests {
                store.insert(guest).await;
            }
            let clock = Arc::new(Meddler::new(store, change, &guests));
            let redemptions = guests.iter().map(|(_, code)| {
                store.grants.redeem(Redemption {
                    clock: clock.clone(),
                    ..advance(code)
                })
            });
            let redeemed = join_all(redemptions).await;
            let was_kept_out = !clock.has_changed.load(Ordering::SeqCst);
            for ((_, code), redeemed) in guests.iter().zip(redeemed) {
                let redeemed = redeemed.unwrap().unwrap();
                let advances = matches!(redeemed.decision, Decision::Advance(_));
                assert_eq!(advances, was_kept_out, "{change}: {redeemed:?}");
                let stored = store.load(code.id).await.unwrap();
                assert_eq!(
                    stored == advanced(code),
                    was_kept_out,
                    "{change}: {stored:?}"
                );
            }
        }
    }
}

/// A clock that is asked between the read and the write, and then has another process change the rows, once.
struct Meddler {
    database: Database,
    sql: String,
    is_done: AtomicBool,
    /// True if the store let the other process in.
    has_changed: AtomicBool,
}

impl Meddler {
    fn new(store: &Store, change: &str, guests: &[(Profile, Grant)]) -> Self {
        let ids = guests
            .iter()
            .map(|(profile, _)| profile.id.as_i64().to_string());
        let ids = ids.collect::<Vec<_>>().join(", ");
        Self {
            database: store.database.clone(),
            sql: format!("update grants set {change} where profile_id in ({ids})"),
            is_done: AtomicBool::new(false),
            has_changed: AtomicBool::new(false),
        }
    }

    /// Changes the rows, unless they are locked.
    fn change(&self) -> bool {
        let url = self.database.url();
        match self.database {
            Database::Sqlite(_) => {
                let file = url.strip_prefix("sqlite:").unwrap();
                let connection = rusqlite::Connection::open(file).unwrap();
                connection.busy_timeout(Duration::ZERO).unwrap();
                connection.execute_batch(&self.sql).is_ok()
            }
            // On a runtime of its own: whoever asks the clock blocks the test's.
            Database::Postgres(_) => std::thread::scope(|scope| {
                let changed = async {
                    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
                    tokio::spawn(connection);
                    client.batch_execute(&self.sql).await.is_ok()
                };
                let thread = scope.spawn(|| Runtime::new().unwrap().block_on(changed));
                thread.join().unwrap()
            }),
        }
    }
}

impl Clock for Meddler {
    fn now(&self) -> Timestamp {
        if !self.is_done.swap(true, Ordering::SeqCst) {
            self.has_changed.store(self.change(), Ordering::SeqCst);
        }
        at(1_000)
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

pub(crate) async fn of_many_wrong_verifiers_at_once_no_more_are_judged_than_the_limit(
    store: &Store,
) {
    let (profile, code) = guest(1);
    store.insert(&(profile, code.clone())).await;
    let strikes = (0..40).map(|_| store.strike(&code));
    let judged = join_all(strikes).await;
    let judged = judged.into_iter().filter(|was_judged| *was_judged).count();
    assert_eq!(judged, usize::from(MAX_STRIKES));
    let strikes = store.load(code.id).await.unwrap().strikes;
    assert_eq!(strikes, MAX_STRIKES);
}

pub(crate) async fn of_many_exchanges_of_a_code_one_advances(store: &Store) {
    let (profile, code) = guest(1);
    store.insert(&(profile, code.clone())).await;
    let (mut advances, mut replays) = (0, 0);
    for redeemed in join_all((0..50).map(|_| store.grants.redeem(advance(&code)))).await {
        match redeemed.unwrap().unwrap().decision {
            Decision::Advance(_) => advances += 1,
            Decision::Revoke(..) => replays += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((advances, replays), (1, 49));
    assert_eq!(store.load(code.id).await, Some(advanced(&code)));
}

pub(crate) async fn of_many_redemptions_one_advances_and_the_others_repeat(store: &Store) {
    let (profile, code) = guest(1);
    store.insert(&(profile, code.clone())).await;
    assert!(store.advance(&code).await);
    let grant = advanced(&code);
    let all = (0..50).map(|_| store.refresh(&grant, grant.generation, at(2_000)));
    let (mut advances, mut repeats) = (0, 0);
    for redeemed in join_all(all).await {
        match redeemed.unwrap().decision {
            Decision::Advance(_) => advances += 1,
            Decision::Repeat => repeats += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((advances, repeats), (1, 49));
    let stored = store.load(code.id).await.unwrap();
    assert_eq!(stored.generation, grant.generation.next());
}

pub(crate) async fn redemptions_at_once_are_decided_on_their_own_rows(store: &Store) {
    let [first, gone, foreign, old, second] = [1, 2, 3, 4, 5].map(|number| guest(number).1);
    for number in [1, 3, 4, 5] {
        let (profile, code) = guest(number);
        store.insert(&(profile, code.clone())).await;
        assert!(store.advance(&code).await);
    }
    let stolen = Grant {
        client: ClientNumber(2),
        ..foreign.clone()
    };
    let newest = Generation::CODE.next();
    // Each twice: whichever is second finds what the first has made of the row.
    let asked = [
        (&second, newest, ["advance", "repeat"]),
        (&gone, newest, ["gone", "gone"]),
        (&stolen, newest, ["refuse", "refuse"]),
        (&old, Generation::CODE, ["reissue", "repeat"]),
        (&first, newest, ["advance", "repeat"]),
    ];
    let twice = asked.iter().chain(&asked);
    let twice = twice.map(|(grant, presented, _)| store.refresh(grant, *presented, at(300_000)));
    let redeemed = join_all(twice).await;
    let (one, other) = redeemed.split_at(asked.len());
    for (((grant, _, expected), one), other) in asked.iter().zip(one).zip(other) {
        let mut decided = [one, other].map(|redeemed| decided(grant, redeemed.as_ref()));
        decided.sort_unstable();
        assert_eq!(decided, *expected, "{one:?} {other:?}");
    }
    for (grant, steps) in [(&first, 2), (&second, 2), (&old, 2), (&foreign, 1)] {
        let stored = store.load(grant.id).await.unwrap();
        assert_eq!(stored.generation.as_u64(), steps);
    }
}

fn decided(grant: &Grant, redeemed: Option<&Redeemed>) -> &'static str {
    let Some(redeemed) = redeemed else {
        return "gone";
    };
    assert_eq!(redeemed.read.id, grant.id);
    match &redeemed.decision {
        Decision::Advance(_) => "advance",
        Decision::Reissue(_) => "reissue",
        Decision::Repeat => "repeat",
        Decision::Refuse(_) => "refuse",
        other => panic!("{other:?}"),
    }
}
