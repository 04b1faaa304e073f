//! Seeds an installation with guests, and keeps the newest refresh token of some of them.

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
use guestpass_core::attributes::Attributes;
use guestpass_core::client::{Change, ClientNumber, ClientSettings};
use guestpass_core::credential::Credential;
use guestpass_core::customer::CustomerId;
use guestpass_core::grant::{Generation, Grant, GrantId, KEEP_ENDED};
use guestpass_core::pkce::{Challenge, EXAMPLE_CHALLENGE};
use guestpass_core::policy::Policy;
use guestpass_core::profile::{NetworkId, ProfileCopy, ProfileId};
use guestpass_core::time::Timestamp;

use crate::failure::Failure;
use crate::process;
use crate::progress::Progress;
use crate::workload::FastRandom;

/// Holds the text of a refresh token or a code.
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

/// Holds the newest refresh token of each guest, in random order.
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

    /// Marks a guest as busy; returns `false` if it is already.
    pub(crate) fn take(&mut self, guest: usize) -> bool {
        !std::mem::replace(&mut self.busy[guest], true)
    }

    /// Marks a guest as free, with its new token if there is one.
    pub(crate) fn put_back(&mut self, guest: usize, token: Option<Token>) {
        self.busy[guest] = false;
        if let Some(token) = token {
            self.tokens[guest] = token;
        }
    }
}

/// Describes an installation to seed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seed {
    pub(crate) guests: u64,
    pub(crate) algorithm: KeyAlgorithm,
    /// Number of live guests whose tokens are kept.
    pub(crate) sample: usize,
    /// Number of guests, the oldest, whose grants ended long enough ago to be cleaned up.
    pub(crate) ended: u64,
    /// The back end's word about each guest, of which the client is told all.
    pub(crate) said: Said,
}

/// Names what a shop has said of its guests.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Said {
    Nothing,
    /// Names the customer that each is.
    Customer,
    /// That, and as many attributes as there may be.
    All,
}

/// The client of all requests.
pub(crate) const CLIENT_ID: &str = "bench";

/// Seeds an installation in a new directory and returns the tokens of a random sample of its live guests.
pub(crate) fn seed(directory: &Path, seed: Seed) -> Result<Guests, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()?;
    fs::create_dir_all(directory)?;
    let file = process::database(directory);
    SqliteStore::migrate(&file, &SecureGenerator::new())?;
    let mut tokens = runtime.block_on(fill(directory, &file, seed))?;
    // Fisher-Yates.
    let mut random = FastRandom::new();
    for last in (1..tokens.len()).rev() {
        tokens.swap(last, random.below(last + 1));
    }
    Ok(Guests::new(tokens))
}

async fn fill(directory: &Path, file: &Path, seed: Seed) -> Result<Vec<Token>, Failure> {
    let random: Arc<dyn Random> = Arc::new(SecureGenerator::new());
    let now = SystemClock::new().now();
    let Begun {
        mut store,
        keys,
        client,
    } = begin(directory, file, seed, &random).await?;
    let policy = Policy::default();
    let mut progress = Progress::new(format!("making {} guests", seed.guests), seed.guests);
    let mut tokens = Vec::with_capacity(seed.sample);
    let mut after = [None, None];
    let mut plans = Plans {
        seed,
        now,
        done: 0,
        kept: 0,
    };
    loop {
        let (mut profiles, mut grants) = (Vec::new(), Vec::new());
        for plan in plans.by_ref().take(BATCH) {
            let profile = ProfileId::new(plan.created_at, random.bytes());
            let id = GrantId::new(profile, random.bytes());
            let network_id = NetworkId::new(random.bytes());
            let challenge = Challenge::parse(EXAMPLE_CHALLENGE).expect("this is a challenge");
            let created_at = plan.created_at;
            let issued = Grant::issue(id, client, network_id, challenge, &policy, created_at);
            let grant = Grant {
                generation: Generation::CODE.next(),
                expires_at: match plan.has_ended {
                    true => now.before(2 * KEEP_ENDED),
                    false => (now + policy.refresh_idle).min(issued.ends_at),
                },
                copied: said_of(id, seed.said).map(Arc::new),
                ..issued
            };
            profiles.push(profile_row(&grant));
            grants.push(grant_row(&grant));
            if plan.in_sample {
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
            let after = std::mem::replace(&mut after[at], last.clone());
            // Not what lies behind: ids from before they began to count lie at their end.
            store
                .replace(Part {
                    table,
                    after,
                    up_to: last,
                    rows,
                })
                .await?;
        }
        progress.at(plans.done);
        if plans.done.is_multiple_of(BETWEEN_CHECKPOINTS) {
            // SQLite checkpoints when the last connection closes.
            drop(store);
            store = open(file)?;
        }
    }
    store.finish_copy().await?;
    Ok(tokens)
}

/// Holds an installation that has a client and keys, but no guests yet.
struct Begun {
    store: Arc<SqliteStore>,
    keys: Arc<Keys>,
    client: ClientNumber,
}

/// Makes an installation without guests, as an unfinished copy: its rows may be inserted in batches of any size.
async fn begin(
    directory: &Path,
    file: &Path,
    seed: Seed,
    random: &Arc<dyn Random>,
) -> Result<Begun, Failure> {
    let small = directory.join("begin.db");
    SqliteStore::migrate(&small, &**random)?;
    let (from, to) = (open(&small)?, open(file)?);
    let client = Change::AddClient {
        id: CLIENT_ID.parse().expect("this is an id"),
        settings: ClientSettings {
            claims: (seed.said == Said::All).then(|| {
                TOLD.map(|name| name.parse().expect("this is a name"))
                    .to_vec()
            }),
            ..ClientSettings::default()
        },
        api_key: None,
        now: SystemClock::new().now(),
    };
    from.change(client)
        .await
        .map_err(|error| Failure(format!("{error:?}")))?;
    let (_, clients) = from.clients().await?;
    let keys = make_keys(directory, from.clone(), seed.algorithm, random).await?;
    to.begin_copy(from.installation_row().await?).await?;
    for table in [Table::Clients, Table::ClientChoices, Table::Keys] {
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
    Ok(Begun {
        store: to,
        keys,
        client: clients[0].number,
    })
}

/// Guests that are inserted in one transaction.
const BATCH: usize = 20_000;
const BETWEEN_CHECKPOINTS: u64 = 500_000;

fn open(file: &Path) -> Result<Arc<SqliteStore>, Failure> {
    Ok(Arc::new(SqliteStore::open(file, Synchronous::Off)?))
}

/// Describes a guest to seed.
struct GuestPlan {
    created_at: Timestamp,
    has_ended: bool,
    in_sample: bool,
}

/// Yields the plans of all guests: created evenly over the last year, the oldest first, and sampled evenly.
struct Plans {
    seed: Seed,
    now: Timestamp,
    done: u64,
    kept: u64,
}

impl Iterator for Plans {
    type Item = GuestPlan;

    fn next(&mut self) -> Option<GuestPlan> {
        const YEAR: u64 = 365 * 86_400_000;
        let left = self
            .seed
            .guests
            .checked_sub(self.done)
            .filter(|left| *left > 0)?;
        self.done += 1;
        let live = self.done.saturating_sub(self.seed.ended);
        let all_live = self.seed.guests - self.seed.ended;
        let in_sample = self.kept * all_live < live * self.seed.sample as u64;
        self.kept += u64::from(in_sample);
        let ago = Duration::from_millis(YEAR / self.seed.guests * left);
        Some(GuestPlan {
            created_at: self.now.before(ago),
            has_ended: live == 0,
            in_sample,
        })
    }
}

fn profile_row(grant: &Grant) -> Row {
    row(Table::Profiles, |column| match column {
        "profile_id" => Value::Integer(grant.id.profile.as_i64()),
        "network_id" => Value::Bytes(grant.network_id.as_bytes().to_vec()),
        "client_number" => Value::Integer(grant.client.0),
        "created_at" => Value::Integer(grant.issued_at.as_millis()),
        "linked_at" if grant.copied.is_some() => Value::Integer(grant.issued_at.as_millis()),
        "linked_at" | "linked_by" | "seen_at" => Value::Null,
        "customer" | "attributes" | "version" => said(grant, column),
        _ => panic!("guests have a new column, {column}"),
    })
}

fn grant_row(grant: &Grant) -> Row {
    let generation =
        |generation: Generation| Value::Integer(generation.as_u64().try_into().unwrap_or(i64::MAX));
    row(Table::Grants, |column| match column {
        "profile_id" => Value::Integer(grant.id.profile.as_i64()),
        "grant_id" => Value::Bytes(grant.id.random.to_vec()),
        "client_number" => Value::Integer(grant.client.0),
        "network_id" => Value::Bytes(grant.network_id.as_bytes().to_vec()),
        "challenge" => Value::Bytes(grant.challenge.as_bytes().to_vec()),
        "generation" => generation(grant.generation),
        "proven" => generation(grant.proven),
        "strikes" => Value::Integer(grant.strikes.into()),
        "issued_at" => Value::Integer(grant.issued_at.as_millis()),
        "advanced_at" => Value::Integer(grant.advanced_at.as_millis()),
        "expires_at" => Value::Integer(grant.expires_at.as_millis()),
        "ends_at" => Value::Integer(grant.ends_at.as_millis()),
        "revoked_at" | "revocation_reason" => Value::Null,
        "customer" | "attributes" | "version" => said(grant, column),
        _ => panic!("grants have a new column, {column}"),
    })
}

/// The claims that the client of linked guests is told.
const TOLD: [&str; 5] = ["customer", "a", "b", "c", "d"];

/// Makes what a shop says of a linked guest: an id of 36 bytes, and perhaps 256 bytes of attributes.
fn said_of(grant: GrantId, said: Said) -> Option<ProfileCopy> {
    if said == Said::Nothing {
        return None;
    }
    let texts = [("a", 64), ("b", 64), ("c", 64), ("d", 35)];
    let members = texts.map(|(name, length)| format!(r#""{name}":"{}""#, "x".repeat(length)));
    let attributes = format!("{{{}}}", members.join(","));
    Some(ProfileCopy {
        version: 1,
        customer: format!("919108f7-52d1-4320-{:017}", grant.profile.as_i64())
            .parse()
            .ok(),
        attributes: match said {
            Said::All => attributes.parse().ok(),
            Said::Nothing | Said::Customer => None,
        },
    })
}

/// Returns what a column says of a guest, if the shop has said anything.
fn said(grant: &Grant, column: &str) -> Value {
    let Some(copied) = &grant.copied else {
        return Value::Null;
    };
    let text = |text: Option<&str>| text.map_or(Value::Null, |text| Value::Text(text.to_owned()));
    match column {
        "version" => Value::Integer(copied.version),
        "customer" => text(copied.customer.as_ref().map(CustomerId::as_str)),
        _ => text(copied.attributes.as_ref().map(Attributes::as_json)),
    }
}

/// Makes a row of the values of its columns, each by its name.
fn row(table: Table, value: impl Fn(&str) -> Value) -> Row {
    let columns = table.columns().iter();
    columns.map(|column| value(column.name())).collect()
}

/// Makes the keys of an installation that has none yet, and the file of the master key.
pub(crate) async fn make_keys(
    directory: &Path,
    store: Arc<dyn Store>,
    algorithm: KeyAlgorithm,
    random: &Arc<dyn Random>,
) -> Result<Arc<Keys>, Failure> {
    let make = || {
        let key = MasterKey::generate(&**random);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(directory.join("master.key"))
            .map_err(|error| error.to_string())?;
        writeln!(file, "{}", *key.expose()).map_err(|error| error.to_string())?;
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
    let now = SystemClock::new().now();
    let ring = KeyRing::load(store, source, Arc::clone(random), schedule, now).await?;
    Ok(Arc::clone(&ring.now()))
}

/// Copies an installation while no process has it open.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    fs::create_dir_all(to)?;
    for name in ["guestpass.db", "master.key"] {
        fs::copy(from.join(name), to.join(name))?;
    }
    Ok(())
}

/// Counts the grants of an installation while no process has it open.
pub(crate) fn count_grants(directory: &Path) -> Result<u64, Failure> {
    let connection = rusqlite::Connection::open(process::database(directory))?;
    Ok(connection.query_row("select count(*) from grants", [], |row| row.get(0))?)
}

/// Returns the size of the database and its log in bytes.
pub(crate) fn size(directory: &Path) -> u64 {
    let file = process::database(directory);
    let with = |end: &str| PathBuf::from(format!("{}{end}", file.display()));
    let sizes = [file.clone(), with("-wal")].map(|file| fs::metadata(file).map_or(0, |m| m.len()));
    sizes.iter().sum()
}
