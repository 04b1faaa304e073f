//! The floors: what the same machine does at best of the parts that a refresh consists of. Each is a process of its own.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use guestpass::clock::{Clock, SystemClock};
use guestpass::keys::{KeyAlgorithm, Keys};
use guestpass::listen;
use guestpass::random::{Random, SecureGenerator};
use guestpass::store::sqlite::{SqliteStore, Synchronous};
use guestpass::store::{Store, Write};
use guestpass::upkeep::{PART, REMOVED_AT_ONCE};
use guestpass_core::claims::Claims;
use guestpass_core::credential::Credential;
use guestpass_core::grant::{Generation, GrantId, KEEP_ENDED};
use guestpass_core::params::Params;
use guestpass_core::profile::{NetworkId, ProfileId};
use guestpass_core::time::Timestamp;
use guestpass_core::token_request::PARAMETERS;
use rusqlite::{Connection, params};
use tokio::net::TcpListener;

use crate::certificate;
use crate::failure::Failure;
use crate::guests::{CLIENT_ID, make_keys};
use crate::process;
use crate::workload::Chance;

#[derive(clap::Subcommand)]
pub(crate) enum Floor {
    /// Handlers that do nothing but HTTP
    Empty {
        /// Where the certificate is, to speak TLS
        #[arg(long)]
        tls: Option<PathBuf>,
    },
    /// The same, but that an access token is signed and a refresh token sealed
    Sign {
        /// Where the keys are made
        directory: PathBuf,
        algorithm: String,
    },
    /// The writes of a refresh in batches, without anything else
    Writes { directory: PathBuf },
    /// The cleaning of ended grants, without pauses
    Clean { directory: PathBuf },
}

pub(crate) fn run(floor: Floor) -> Result<(), Failure> {
    match floor {
        Floor::Empty { tls } => serve(tls.as_deref(), async || Ok(empty())),
        Floor::Sign {
            directory,
            algorithm,
        } => serve(None, async move || sign(&directory, &algorithm).await),
        Floor::Writes { directory } => writes(&directory),
        Floor::Clean { directory } => clean(&directory),
    }
}

/// Serves as Guestpass does, on as many threads, until standard input ends; with TLS, if there is a certificate.
fn serve(
    certificate: Option<&Path>,
    router: impl AsyncFnOnce() -> Result<Router, Failure>,
) -> Result<(), Failure> {
    let tls = certificate.map(|directory| certificate::server(directory).read());
    let tls = tls.transpose()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let router = router().await?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        say(&format!("listening on http://{}", listener.local_addr()?))?;
        let ended = tokio::task::spawn_blocking(|| std::io::stdin().lines().for_each(drop));
        listen::serve(listener, tls, router, async {
            let _ = ended.await;
        })
        .await;
        Ok(())
    })
}

fn say(line: &str) -> Result<(), Failure> {
    let mut output = std::io::stdout();
    writeln!(output, "{line}")?;
    Ok(output.flush()?)
}

fn empty() -> Router {
    let code = format!(
        r#"{{"code":"{}","state":"0123456789abcdef"}}"#,
        "A".repeat(64)
    );
    // As large as real tokens are.
    let tokens = tokens(&"A".repeat(520), &"A".repeat(64));
    Router::new()
        .route("/oauth/authorize", get(async move || json(code)))
        .route(
            "/oauth/token",
            post(async move |body: Bytes| {
                let pairs = pairs(&body);
                std::hint::black_box(&pairs);
                json(tokens)
            }),
        )
}

/// The pairs of a form, as the server reads them.
fn pairs(body: &[u8]) -> Option<Params<'_>> {
    Params::from_form(PARAMETERS, body).ok()
}

fn json(body: String) -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], body)
}

fn tokens(access_token: &str, refresh_token: &str) -> String {
    format!(
        r#"{{"access_token":"{access_token}","refresh_token":"{refresh_token}","expires_in":86400,"token_type":"Bearer"}}"#
    )
}

async fn sign(directory: &Path, algorithm: &str) -> Result<Router, Failure> {
    std::fs::create_dir_all(directory)?;
    let (file, random) = (process::database(directory), SecureGenerator::new());
    SqliteStore::migrate(&file, &random)?;
    let store = Arc::new(SqliteStore::open(&file, Synchronous::Full)?);
    let algorithm = algorithm_named(algorithm)?;
    let random: Arc<dyn Random> = Arc::new(random);
    let now = SystemClock::new().now();
    let keys = make_keys(directory, store, (algorithm, &random), now).await?;
    Ok(Router::new()
        .route("/oauth/token", post(signed))
        .with_state((keys, random)))
}

async fn signed(
    State((keys, random)): State<(Arc<Keys>, Arc<dyn Random>)>,
    body: Bytes,
) -> impl IntoResponse {
    std::hint::black_box(pairs(&body));
    let now = SystemClock::new().now();
    let profile = ProfileId::new(now, random.bytes());
    let grant = GrantId::new(profile, [7; 8]);
    let claims = Claims {
        issuer: "http://127.0.0.1:49152",
        audience: None,
        client_id: CLIENT_ID,
        profile,
        network_id: NetworkId::new([7; 16]),
        grant,
        token_id: random.bytes(),
        issued_at: now,
        expires_at: now + Duration::from_secs(86_400),
    };
    let refresh_token = keys.seal(Credential {
        grant,
        generation: Generation::from_u64(7),
    });
    json(tokens(&keys.sign(&claims), &refresh_token))
}

pub(crate) fn algorithm_named(name: &str) -> Result<KeyAlgorithm, Failure> {
    let known = [
        KeyAlgorithm::Hs256,
        KeyAlgorithm::Es256,
        KeyAlgorithm::EdDsa,
        KeyAlgorithm::Rs256,
    ];
    let found = known.into_iter().find(|known| known.name() == name);
    found.ok_or_else(|| Failure(format!("{name} is no algorithm")))
}

/// Compare-and-set on random rows, 64 in a transaction. Reads how many milliseconds to go on, then prints how many writes
/// that were, again and again.
fn writes(directory: &Path) -> Result<(), Failure> {
    let connection = open(directory)?;
    connection.pragma_update(None, "cache_size", -8192)?;
    let mut rows = rows(&connection)?;
    let (wake, woken) = sync_channel(1);
    let other = open(directory)?;
    std::thread::spawn(move || checkpoint(&other, &woken));
    let mut chance = Chance::new();
    say("ready")?;
    for line in std::io::stdin().lines() {
        let time = Duration::from_millis(line?.parse()?);
        let (start, mut done) = (Instant::now(), 0);
        while start.elapsed() < time {
            batch(&connection, &mut rows, &mut chance)?;
            let before = done;
            done += BATCH;
            if before / WRITES_BETWEEN != done / WRITES_BETWEEN {
                wake_up(&wake);
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        // Under way it would stall the writes, which the store has ways around.
        move_log(&connection, "truncate")?;
        say(&format!("{done} {seconds}"))?;
    }
    Ok(())
}

/// What identifies a grant, and its generation.
type GrantRow = (i64, i64);

fn rows(connection: &Connection) -> Result<Vec<GrantRow>, Failure> {
    let mut rows = connection.prepare("select grant_number, generation from grants")?;
    let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// What the writer of the store does with as many refreshes.
fn batch(
    connection: &Connection,
    rows: &mut [GrantRow],
    chance: &mut Chance,
) -> Result<(), Failure> {
    connection.execute_batch("begin immediate")?;
    for _ in 0..BATCH {
        let at = chance.below(rows.len());
        advance(connection, &mut rows[at])?;
    }
    Ok(connection.execute_batch("commit")?)
}

/// One write of a refresh.
fn advance(connection: &Connection, row: &mut GrantRow) -> Result<(), Failure> {
    const SQL: &str = "
        update grants set generation = ?, proven = ?, advanced_at = ?, expires_at = ?
         where grant_number = ? and generation = ? and revoked_at is null and (?1 > 1 or strikes < 5)";
    let now = SystemClock::new().now().as_millis();
    let (number, from) = *row;
    let values = params![from + 1, from, now, now + YEAR, number, from];
    match connection.prepare_cached(SQL)?.execute(values)? {
        1 => row.1 = from + 1,
        _ => return Err(Failure("a row is not as it was".into())),
    }
    Ok(())
}

/// Writes so many refreshes of every grant, and moves the log into the file after each pass.
pub(crate) fn refresh_all(directory: &Path, times: usize) -> Result<(), Failure> {
    let connection = open(directory)?;
    let mut rows = rows(&connection)?;
    for _ in 0..times {
        connection.execute_batch("begin immediate")?;
        for row in &mut rows {
            advance(&connection, row)?;
        }
        connection.execute_batch("commit")?;
        move_log(&connection, "truncate")?;
    }
    Ok(())
}

/// Waits for a line, then walks over all grants once and removes what has ended, in parts as large as the cleaner's. Prints
/// how many that were.
fn clean(directory: &Path) -> Result<(), Failure> {
    let store = SqliteStore::open(&process::database(directory), Synchronous::Full)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()?;
    say("ready")?;
    std::io::stdin().read_line(&mut String::new())?;
    let ended_before = SystemClock::new().now().before(KEEP_ENDED);
    let removed = runtime.block_on(remove_ended(&store, ended_before))?;
    say(&removed.to_string())?;
    // Stays until it was asked what it has used.
    std::io::stdin().lines().for_each(drop);
    Ok(())
}

async fn remove_ended(store: &dyn Store, ended_before: Timestamp) -> Result<usize, Failure> {
    let (mut after, mut removed) = (None, 0);
    loop {
        let part = store.ended_grants(after, ended_before, PART).await?;
        removed += part.ended.len();
        for some in part.ended.chunks(REMOVED_AT_ONCE) {
            let remove = Write::RemoveEnded(some.to_vec(), ended_before);
            store.write(remove).await?;
        }
        after = part.next;
        if after.is_none() {
            return Ok(removed);
        }
    }
}

const BATCH: usize = 64;
/// Milliseconds.
const YEAR: i64 = 365 * 86_400_000;

/// As the store opens its connections.
fn open(directory: &Path) -> Result<Connection, Failure> {
    let connection = Connection::open(process::database(directory))?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "secure_delete", true)?;
    Ok(connection)
}

fn wake_up(wake: &SyncSender<()>) {
    let _ = wake.try_send(());
}

/// Moves the log into the file as often as the store would, so that the same work is done.
fn checkpoint(connection: &Connection, woken: &Receiver<()>) {
    while woken.recv().is_ok() {
        let _ = move_log(connection, "passive");
    }
}

fn move_log(connection: &Connection, mode: &str) -> rusqlite::Result<()> {
    let sql = format!("pragma wal_checkpoint({mode})");
    connection.query_row(&sql, [], |_| Ok(()))
}

/// The store lets so many pages come together, and random writes fill about one each.
const WRITES_BETWEEN: usize = 4096;
