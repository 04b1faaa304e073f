//! The floors: each does one part of a refresh at the highest rate that this machine reaches, in a process of its own.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
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
use guestpass::store::sqlite::bare::{BareGrant, BareWriter};
use guestpass::store::sqlite::{SqliteStore, Synchronous};
use guestpass::store::{EndedBefore, REMOVED_AT_ONCE, Store, Write};
use guestpass::upkeep::PART;
use guestpass_core::claims::{Claims, Typ};
use guestpass_core::credential::Credential;
use guestpass_core::grant::{Generation, GrantId, KEEP_ENDED};
use guestpass_core::params::Params;
use guestpass_core::profile::{NetworkId, ProfileId};
use guestpass_core::token_request::PARAMETERS;
use tokio::net::TcpListener;

use crate::certificate;
use crate::failure::Failure;
use crate::guests::{CLIENT_ID, make_keys};
use crate::process;
use crate::workload::FastRandom;

#[derive(clap::Subcommand)]
pub(crate) enum Floor {
    /// Serves handlers that do nothing but HTTP
    Empty {
        /// Directory with a certificate, to speak TLS
        #[arg(long)]
        tls: Option<PathBuf>,
    },
    /// Serves a handler that signs an access token and seals a refresh token
    Sign {
        /// New directory for the keys
        directory: PathBuf,
        algorithm: String,
    },
    /// Writes what refreshes write, in batches
    Writes { directory: PathBuf },
    /// Removes ended grants as the cleaner does, without its pauses
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

/// Serves the router on the server's accept loop, with as many threads, until standard input ends. With a certificate it
/// speaks TLS.
fn serve(
    certificate: Option<&Path>,
    router: impl AsyncFnOnce() -> Result<Router, Failure>,
) -> Result<(), Failure> {
    let tls = certificate
        .map(|directory| certificate::server(directory).read())
        .transpose()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let router = router().await?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        print_line(&format!("listening on http://{}", listener.local_addr()?))?;
        let ended = tokio::task::spawn_blocking(|| std::io::stdin().lines().for_each(drop));
        let settings = listen::Settings {
            tls,
            ..listen::Settings::default()
        };
        listen::serve(listener, settings, router, async {
            let _ = ended.await;
        })
        .await;
        Ok(())
    })
}

#[expect(
    clippy::disallowed_methods,
    reason = "the parent process reads it, at once"
)]
fn print_line(line: &str) -> Result<(), Failure> {
    let mut output = std::io::stdout();
    writeln!(output, "{line}")?;
    Ok(output.flush()?)
}

fn empty() -> Router {
    let code = format!(
        r#"{{"code":"{}","state":"0123456789abcdef"}}"#,
        "A".repeat(64)
    );
    // Real tokens are of this length.
    let tokens = tokens(&"A".repeat(520), &"A".repeat(64));
    Router::new()
        .route("/oauth/authorize", get(async move || json(code)))
        .route(
            "/oauth/token",
            post(async move |body: Bytes| {
                std::hint::black_box(parse(&body));
                json(tokens)
            }),
        )
}

/// Parses a form as the server does.
fn parse(body: &[u8]) -> Option<Params<'_>> {
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
    let file = process::database(directory);
    let random: Arc<dyn Random> = Arc::new(SecureGenerator::new());
    SqliteStore::migrate(&file, &*random)?;
    let store = Arc::new(SqliteStore::open(&file, Synchronous::Full)?);
    let keys = make_keys(directory, store, algorithm_named(algorithm)?, &random).await?;
    Ok(Router::new()
        .route("/oauth/token", post(signed))
        .with_state((keys, random)))
}

async fn signed(
    State((keys, random)): State<(Arc<Keys>, Arc<dyn Random>)>,
    body: Bytes,
) -> impl IntoResponse {
    std::hint::black_box(parse(&body));
    let now = SystemClock::new().now();
    let profile = ProfileId::new(now, random.bytes());
    let grant = GrantId::new(profile, [7; 8]);
    let claims = Claims {
        issuer: "http://127.0.0.1:49152",
        audience: None,
        audience_restricted: false,
        client_id: CLIENT_ID,
        profile,
        network_id: NetworkId::new([7; 16]),
        grant,
        token_id: random.bytes(),
        issued_at: now,
        expires_at: now + Duration::from_secs(86_400),
        customer: None,
        attributes: None,
    };
    let refresh_token = keys.seal(Credential {
        grant,
        generation: Generation::from_u64(7),
    });
    json(tokens(&keys.sign(Typ::AtJwt, &claims), &refresh_token))
}

fn algorithm_named(name: &str) -> Result<KeyAlgorithm, Failure> {
    [
        KeyAlgorithm::Hs256,
        KeyAlgorithm::Es256,
        KeyAlgorithm::EdDsa,
        KeyAlgorithm::Rs256,
    ]
    .into_iter()
    .find(|known| known.name() == name)
    .ok_or_else(|| Failure(format!("{name} is no algorithm")))
}

/// Advances random grants in batches. Reads for how many milliseconds, then prints the number of writes and the seconds
/// that they took; again and again.
fn writes(directory: &Path) -> Result<(), Failure> {
    let mut writer = BareWriter::open(&process::database(directory))?;
    let mut grants = writer.grants()?;
    let mut random = FastRandom::new();
    print_line("ready")?;
    for line in std::io::stdin().lines() {
        let time = Duration::from_millis(line?.parse()?);
        let (start, mut done) = (Instant::now(), 0);
        while start.elapsed() < time {
            writer.begin()?;
            for _ in 0..BATCH {
                let at = random.below(grants.len());
                advance(&mut writer, &mut grants[at])?;
            }
            writer.commit()?;
            done += BATCH;
        }
        let seconds = start.elapsed().as_secs_f64();
        // Each measurement begins with an empty log.
        writer.empty_log()?;
        print_line(&format!("{done} {seconds}"))?;
    }
    Ok(())
}

/// Writes in one transaction. The server's batches are smaller, so its share of a commit is larger.
const BATCH: usize = 64;

fn advance(writer: &mut BareWriter, grant: &mut BareGrant) -> Result<(), Failure> {
    let now = SystemClock::new().now();
    Ok(writer.advance(grant, now, now + YEAR)?)
}

const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// Refreshes every grant so many times, and empties the log after each pass.
pub(crate) fn refresh_all(directory: &Path, times: usize) -> Result<(), Failure> {
    let mut writer = BareWriter::open(&process::database(directory))?;
    let mut grants = writer.grants()?;
    for _ in 0..times {
        writer.begin()?;
        for grant in &mut grants {
            advance(&mut writer, grant)?;
        }
        writer.commit()?;
        writer.empty_log()?;
    }
    Ok(())
}

/// Waits for a line, walks over all grants once, removes those that have ended in batches as large as the cleaner's, and
/// prints their number.
fn clean(directory: &Path) -> Result<(), Failure> {
    let store = SqliteStore::open(&process::database(directory), Synchronous::Full)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()?;
    print_line("ready")?;
    std::io::stdin().read_line(&mut String::new())?;
    let before = EndedBefore::all(SystemClock::new().now().before(KEEP_ENDED));
    let removed = runtime.block_on(remove_ended(&store, before))?;
    print_line(&removed.to_string())?;
    // The process stays until its CPU time was read.
    std::io::stdin().lines().for_each(drop);
    Ok(())
}

async fn remove_ended(store: &dyn Store, before: EndedBefore) -> Result<usize, Failure> {
    let (mut after, mut removed) = (None, 0);
    loop {
        let part = store.scan_grants(after, before, PART).await?;
        removed += part.ended.len();
        for some in part.ended.chunks(REMOVED_AT_ONCE) {
            let remove = Write::RemoveEnded(some.to_vec(), before);
            store.write(remove).await?;
        }
        after = part.next;
        if after.is_none() {
            return Ok(removed);
        }
    }
}
