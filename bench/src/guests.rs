//! Guests that are there already: an installation made in one go, and the refresh tokens of some of its guests.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use guestpass::clock::{Clock, SystemClock};
use guestpass::keys::{KeyAlgorithm, KeyRing, Keys, MasterKey, MasterKeySource, Schedule};
use guestpass::random::{Random, SecureGenerator};
use guestpass::store::sqlite::{SqliteStore, Synchronous};
use guestpass::store::transfer::{Part, Row, Table, Value};
use guestpass::store::{Registry, Store, Transfer};
use guestpass_core::client::{Change, ClientNumber, ClientSettings};
use guestpass_core::credential::Credential;
use guestpass_core::grant::{Generation, Grant, GrantId, KEEP_ENDED};
use guestpass_core::pkce::{Challenge, EXAMPLE_CHALLENGE};
use guestpass_core::policy::Policy;
use guestpass_core::profile::{NetworkId, ProfileId};
use guestpass_core::time::Timestamp;

use crate::failure::Failure;
use crate::process;
use crate::progress::Progress;
use crate::workload::Chance;

/// The text of a refresh token or a code.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Token(pub(crate) [u8; Self::LENGTH]);

impl Token {
    pub(crate) const LENGTH: usize = 64;

    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        text.try_into().ok().map(Self)
    }
}

impl Default for Token {
    fn default() -> Self {
        Self([b'A'; Self::LENGTH])
    }
}

/// The newest refresh token of each guest, in no order.
#[derive(Clone, Default)]
pub(crate) struct Guests {
    tokens: Vec<Token>,
    busy: Vec<bool>,
}

impl Guests {
    pub(crate) fn new(tokens: Vec<Token>) -> Self {
        Self {
            busy: vec![false; tokens.len()],
            tokens,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.tokens.len()
    }

    pub(crate) fn token(&self, guest: usize) -> Token {
        self.tokens[guest]
    }

    /// Takes a guest that nobody has taken.
    pub(crate) fn take(&mut self, guest: usize) -> bool {
        !std::mem::replace(&mut self.busy[guest], true)
    }

    /// Gives a guest back, perhaps with a new token.
    pub(crate) fn put_back(&mut self, guest: usize, token: Option<Token>) {
        self.busy[guest] = false;
        if let Some(token) = token {
            self.tokens[guest] = token;
        }
    }
}

/// An installation to make.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seed {
    pub(crate) guests: u64,
    pub(crate) algorithm: KeyAlgorithm,
    /// How many of those that live to keep the tokens of.
    pub(crate) sample: usize,
    /// How many of them, the oldest, have ended, long enough ago to be cleaned up.
    pub(crate) ended: u64,
}

/// The client in whose name everything is asked.
pub(crate) const CLIENT_ID: &str = "bench";

/// Makes an installation in a new directory and answers the tokens of a random part of its guests.
pub(crate) fn seed(directory: &Path, seed: Seed) -> Result<Guests, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()?;
    fs::create_dir_all(directory)?;
    let file = process::database(directory);
    SqliteStore::migrate(&file, &SecureGenerator::new())?;
    let mut tokens = runtime.block_on(fill(directory, &file, seed))?;
    let mut chance = Chance::new();
    for last in (1..tokens.len()).rev() {
        tokens.swap(last, chance.below(last + 1));
    }
    Ok(Guests::new(tokens))
}

async fn fill(directory: &Path, file: &Path, seed: Seed) -> Result<Vec<Token>, Failure> {
    let random: Arc<dyn Random> = Arc::new(SecureGenerator::new());
    let now = SystemClock::new().now();
    let (mut store, (keys, client)) = begin(directory, file, seed.algorithm, &random).await?;
    let policy = Policy::default();
    let mut progress = Progress::new(format!("making {} guests", seed.guests), seed.guests);
    let (mut tokens, mut after) = (Vec::with_capacity(seed.sample), [None, None]);
    let mut numbers = Numbers::of(seed, now);
    loop {
        let (mut profiles, mut grants) = (Vec::new(), Vec::new());
        for (created_at, has_ended, in_sample) in numbers.by_ref().take(AT_ONCE) {
            let id = GrantId::new(ProfileId::new(created_at, random.bytes()), random.bytes());
            let network_id = NetworkId::new(random.bytes());
            let challenge = Challenge::parse(EXAMPLE_CHALLENGE).expect("this is a challenge");
            let issued = Grant::issue(id, client, network_id, challenge, &policy, created_at);
            let grant = Grant {
                generation: Generation::CODE.next(),
                expires_at: match has_ended {
                    true => now.before(2 * KEEP_ENDED),
                    false => (now + policy.refresh_idle).min(issued.ends_at),
                },
                ..issued
            };
            profiles.push(profile_row(&grant));
            grants.push(grant_row(&grant));
            if in_sample {
                let token = keys.seal(Credential {
                    grant: id,
                    generation: grant.generation,
                });
                tokens.extend(Token::parse(token.as_bytes()));
            }
        }
        if grants.is_empty() {
            break;
        }
        for (at, (table, rows)) in [(Table::Profiles, profiles), (Table::Grants, grants)]
            .into_iter()
            .enumerate()
        {
            let last = rows.last().map(|row| table.key_of(row));
            let after = std::mem::replace(&mut after[at], last);
            store
                .replace(Part {
                    table,
                    after,
                    up_to: None,
                    rows,
                })
                .await?;
        }
        progress.at(numbers.done);
        if numbers.done.is_multiple_of(BETWEEN_CHECKPOINTS) {
            // Whoever closes the file last moves the log into it.
            drop(store);
            store = open(file)?;
        }
    }
    store.finish_copy().await?;
    Ok(tokens)
}

/// An installation without guests, as the beginning of a copy: the parts of that may be as large as one likes.
async fn begin(
    directory: &Path,
    file: &Path,
    algorithm: KeyAlgorithm,
    random: &Arc<dyn Random>,
) -> Result<(Arc<SqliteStore>, (Arc<Keys>, ClientNumber)), Failure> {
    let small = directory.join("begin.db");
    SqliteStore::migrate(&small, &**random)?;
    let (from, to) = (open(&small)?, open(file)?);
    let now = SystemClock::new().now();
    let client = Change::AddClient {
        id: CLIENT_ID.parse().expect("this is an id"),
        settings: ClientSettings::default(),
        api_key: None,
        now,
    };
    let added = from.change(client).await;
    added.map_err(|error| Failure(format!("{error:?}")))?;
    let (_, clients) = from.clients().await?;
    let keys = make_keys(directory, from.clone(), (algorithm, random), now).await?;
    to.begin_copy(from.installation_row().await?).await?;
    for table in [Table::Clients, Table::Keys] {
        let part = Part {
            table,
            after: None,
            up_to: None,
            rows: from.rows(table, None, 100).await?,
        };
        to.replace(part).await?;
    }
    drop(from);
    fs::remove_file(small)?;
    Ok((to, (keys, clients[0].number)))
}

/// How many guests travel together.
const AT_ONCE: usize = 20_000;
const BETWEEN_CHECKPOINTS: u64 = 500_000;

fn open(file: &Path) -> Result<Arc<SqliteStore>, Failure> {
    Ok(Arc::new(SqliteStore::open(file, Synchronous::Off)?))
}

/// When each guest came, evenly over the last year and the oldest first, whether it has ended, and whether its token is
/// wanted.
struct Numbers {
    seed: Seed,
    now: Timestamp,
    done: u64,
    kept: u64,
}

impl Numbers {
    fn of(seed: Seed, now: Timestamp) -> Self {
        Self {
            seed,
            now,
            done: 0,
            kept: 0,
        }
    }
}

impl Iterator for Numbers {
    type Item = (Timestamp, bool, bool);

    fn next(&mut self) -> Option<Self::Item> {
        const YEAR: u64 = 365 * 86_400_000;
        let left = self
            .seed
            .guests
            .checked_sub(self.done)
            .filter(|left| *left > 0)?;
        self.done += 1;
        let living = self.done.saturating_sub(self.seed.ended);
        let of = self.seed.guests - self.seed.ended;
        let is_wanted = self.kept * of < living * self.seed.sample as u64;
        self.kept += u64::from(is_wanted);
        let ago = Duration::from_millis(YEAR / self.seed.guests * left);
        Some((self.now.before(ago), living == 0, is_wanted))
    }
}

fn profile_row(grant: &Grant) -> Row {
    vec![
        Value::Integer(grant.id.profile.as_i64()),
        Value::Bytes(grant.network_id.as_bytes().to_vec()),
        Value::Integer(grant.client.0),
        Value::Integer(grant.issued_at.as_millis()),
    ]
}

fn grant_row(grant: &Grant) -> Row {
    vec![
        Value::Integer(grant.id.profile.as_i64()),
        Value::Bytes(grant.id.random.to_vec()),
        Value::Integer(grant.client.0),
        Value::Bytes(grant.network_id.as_bytes().to_vec()),
        Value::Bytes(grant.challenge.as_bytes().to_vec()),
        Value::Integer(1),
        Value::Integer(0),
        Value::Integer(0),
        Value::Integer(grant.issued_at.as_millis()),
        Value::Integer(grant.advanced_at.as_millis()),
        Value::Integer(grant.expires_at.as_millis()),
        Value::Integer(grant.ends_at.as_millis()),
        Value::Null,
        Value::Null,
    ]
}

/// The keys of an installation that has none yet; the master key goes where the server looks for it.
pub(crate) async fn make_keys(
    directory: &Path,
    store: Arc<dyn Store>,
    (algorithm, random): (KeyAlgorithm, &Arc<dyn Random>),
    now: Timestamp,
) -> Result<Arc<Keys>, Failure> {
    let make = || {
        let key = MasterKey::generate(&**random);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(directory.join("master.key"))
            .map_err(|error| error.to_string())?;
        writeln!(file, "{}", key.expose()).map_err(|error| error.to_string())?;
        Ok(key)
    };
    let source = MasterKeySource {
        present: None,
        make: &make,
    };
    let schedule = Schedule {
        algorithm,
        jwks_max_age: Duration::from_secs(300),
        rotate_every: None,
    };
    let ring = KeyRing::load(store, source, Arc::clone(random), schedule, now).await?;
    Ok(ring.now())
}

/// Copies an installation that nobody uses.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    fs::create_dir_all(to)?;
    for name in ["guestpass.db", "master.key"] {
        fs::copy(from.join(name), to.join(name))?;
    }
    Ok(())
}

/// How many there are, in an installation that nobody uses.
pub(crate) fn count(directory: &Path) -> Result<u64, Failure> {
    let connection = rusqlite::Connection::open(process::database(directory))?;
    let count = connection.query_row("select count(*) from grants", [], |row| row.get(0))?;
    Ok(count)
}

/// How large the database is, the log included.
pub(crate) fn size(directory: &Path) -> u64 {
    let file = process::database(directory);
    let with = |end: &str| PathBuf::from(format!("{}{end}", file.display()));
    let sizes = [file.clone(), with("-wal")].map(|file| fs::metadata(file).map_or(0, |m| m.len()));
    sizes.iter().sum()
}
