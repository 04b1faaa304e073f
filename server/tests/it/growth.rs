//! PostgreSQL keeps old versions of rows. A refresh must leave none for long, and touch no index: a HOT update, in the page
//! where the row is.

use std::sync::Arc;

use futures_util::future::join_all;
use guestpass::clock::{SteadyClock, SystemClock};
use guestpass::store::postgres::{Connection, PostgresStore};
use guestpass::store::{Outcome, Proof, Redemption, Store, Write};
use guestpass_core::client::ClientNumber;
use guestpass_core::grant::{Decision, Generation, Grant, GrantId};
use guestpass_core::pkce::{Challenge, Verifier};
use guestpass_core::policy::Policy;
use guestpass_core::profile::{NetworkId, Profile, ProfileId};
use guestpass_core::time::Timestamp;
use tokio_postgres::Client;

use crate::support::{Alone, CHALLENGE, FakeClock, SeededRandom, VERIFIER, sha256, until};

mod sqlite;

/// The tables have no page more after many refreshes of each grant than after one, and no refresh writes an index: all are
/// HOT. Nothing clears up behind the server here: what is no longer needed goes while pages are used.
///
/// That takes room on the page, and a page can't be cleared of what an open transaction may still read. So that nothing
/// depends on how long the machine leaves a transaction open, a few refreshes go at a time, and all of them end before the
/// next ones begin: fewer than a page has room for, however they fall.
#[tokio::test(flavor = "multi_thread")]
async fn f43_refreshes_take_no_room_and_write_no_index() {
    let (grants, rounds) = size_of_this_run();
    let server = Alone::start();
    let connection = Connection::parse(&server.url, 16, 64).unwrap();
    let random = SeededRandom::new();
    PostgresStore::migrate(&connection, &random).await.unwrap();
    let database = server.client().await;
    let store = open(&connection).await;
    let mut grants: Vec<Grant> = (0..grants).map(grant).collect();
    each(&store, &mut grants, insert).await;
    // The exchange, and the first refresh.
    for _ in 0..2 {
        a_few_at_a_time(&store, &mut grants).await;
    }
    drop(store);
    let (before, first) = (
        sizes(&database).await,
        updates(&database, 2 * grants.len()).await,
    );
    let store = open(&connection).await;
    for round in 1..rounds {
        // In another order each time: neighbours don't come together.
        grants.sort_by_cached_key(|grant| {
            sha256(&[&grant.id.random[..], &round.to_be_bytes()].concat())
        });
        a_few_at_a_time(&store, &mut grants).await;
    }
    drop(store);
    let expected = (1 + usize::try_from(rounds).unwrap()) * grants.len();
    let last = updates(&database, expected).await;
    let (all, hot) = (last.0 - first.0, last.1 - first.1);
    let after = sizes(&database).await;
    println!(
        "{all} refreshes, {hot} of them HOT; table and indexes {before:?} bytes, then {after:?}"
    );
    assert_eq!(hot, all);
    assert_eq!(after, before);
}

/// Some, or 10,000 grants and as many refreshes of each as the environment asks for.
#[expect(
    clippy::disallowed_methods,
    reason = "it says how thorough this run is, which is nothing of the program's"
)]
fn size_of_this_run() -> (u32, u32) {
    match std::env::var("GUESTPASS_TEST_REFRESHES") {
        Ok(rounds) => {
            let rounds = rounds.parse();
            (
                10_000,
                rounds.expect("GUESTPASS_TEST_REFRESHES is a number"),
            )
        }
        Err(_) => (3_000, 10),
    }
}

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

fn grant(number: u32) -> Grant {
    let profile = ProfileId::from_i64(NOW.as_millis() + i64::from(number)).unwrap();
    let random = sha256(&number.to_be_bytes());
    let id = GrantId::new(profile, random[..8].try_into().unwrap());
    Grant::issue(
        id,
        ClientNumber(1),
        NetworkId::from_bytes(random[..16].try_into().unwrap()),
        Challenge::parse(CHALLENGE).unwrap(),
        &Policy::default(),
        NOW,
    )
}

async fn open(connection: &Connection) -> Arc<dyn Store> {
    let clock = SteadyClock::new(Arc::new(SystemClock::new()));
    let store = PostgresStore::open(connection, Arc::new(clock)).await;
    Arc::new(store.unwrap())
}

/// Takes a step with each grant, many at a time.
async fn each(
    store: &Arc<dyn Store>,
    grants: &mut [Grant],
    step: impl AsyncFn(&dyn Store, &mut Grant),
) {
    let chunks = grants.chunks_mut(grants.len().div_ceil(AT_ONCE));
    let steps = chunks.map(async |chunk| {
        for grant in chunk {
            step(&**store, grant).await;
        }
    });
    join_all(steps).await;
}

/// Below half of the queue, beyond which new guests are refused.
const AT_ONCE: usize = 256;

/// Advances all grants, so many at a time.
async fn a_few_at_a_time(store: &Arc<dyn Store>, grants: &mut [Grant]) {
    for few in grants.chunks_mut(FEW) {
        each(store, few, advance).await;
    }
}

/// A page has room for eight versions of a row beside its rows (`fillfactor`). Of so many grants from all over the table, no
/// more lie on one page, and what the last ones left there goes when the next ones come.
const FEW: usize = 16;

async fn insert(store: &dyn Store, grant: &mut Grant) {
    let profile = Profile::new(
        grant.id.profile,
        grant.network_id,
        grant.client,
        grant.issued_at,
    );
    let write = Write::InsertGuest(profile, grant.clone());
    assert_eq!(store.write(write).await.unwrap(), Outcome::Done);
}

/// Exchanges the code or, once that is done, uses the newest refresh token.
async fn advance(store: &dyn Store, grant: &mut Grant) {
    let proof = if grant.generation == Generation::CODE {
        Proof::Code(Verifier::parse(VERIFIER).unwrap())
    } else {
        Proof::RefreshToken(grant.generation)
    };
    // Each time is another one than the last time.
    let clock = FakeClock::new();
    clock.advance_secs(grant.generation.as_u64());
    let redemption = Redemption {
        grant: grant.id,
        proof,
        client: grant.client,
        policy: Arc::default(),
        clock: Arc::new(clock),
    };
    let redeemed = store.redeem(redemption).await.unwrap().unwrap();
    let Decision::Advance(next) = redeemed.decision else {
        panic!("{redeemed:?}");
    };
    *grant = next;
}

/// The bytes of the table and of its indexes.
async fn sizes(database: &Client) -> [i64; 2] {
    let table = "select pg_table_size('grants')";
    let indexes = "select pg_indexes_size('grants')";
    [
        number(database, table).await,
        number(database, indexes).await,
    ]
}

/// Counts the updates, and those of them that were HOT, once the database has counted so many. It counts those of a
/// session at its end at the latest.
async fn updates(database: &Client, expected: usize) -> (i64, i64) {
    let column = |name| format!("select {name} from pg_stat_user_tables where relname = 'grants'");
    let all = async || number(database, &column("n_tup_upd")).await;
    until(async || usize::try_from(all().await).unwrap() >= expected).await;
    let hot = number(database, &column("n_tup_hot_upd")).await;
    (all().await, hot)
}

/// The number that is the answer to a query.
async fn number(database: &Client, sql: &str) -> i64 {
    database.query_one(sql, &[]).await.unwrap().get(0)
}
