//! `guestpass profile import`: adds guests that another system knows already, from CSV.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::time::UNIX_EPOCH;

use csv::{ErrorKind, Reader, ReaderBuilder, StringRecord, Trim};
use guestpass_core::client::{ChangeError, Client, ClientId, ClientNumber};
use guestpass_core::profile::{NetworkId, Profile, ProfileId};
use guestpass_core::time::Timestamp;
use serde_json::json;

use super::database::Opened;
use super::input::Input;
use super::master_key::open_keys;
use super::progress::Progress;
use super::{Failure, Output, client};
use crate::config::Config;
use crate::keys::Keys;
use crate::store::{RevokedId, RevokedList, Store, Tombstone, Write};
use crate::terminal;

#[derive(clap::Args)]
pub(super) struct Args {
    /// CSV with a header: sub, subn, created_at, and client_id unless --client is given; - is standard input
    #[arg(value_name = "FILE")]
    file: std::path::PathBuf,
    /// The client whose guests they are, whatever the file says
    #[arg(long, value_name = "ID")]
    client: Option<ClientId>,
}

pub(super) const AFTER_HELP: &str = "\
sub is a positive whole number below 2^63, subn a UUID, created_at a time as 2026-01-31T12:00:00Z or milliseconds since
1970. What `guestpass profile export` writes can be imported. The whole file is checked first. Guests that are there
already with the same values are left alone, so the same file can be imported again; those that were erased stay erased.
A subn belongs to one guest: two with the same are refused.

An imported guest has no grant, so nobody can get a token for it yet: authorize makes a new guest, and resume_with_jwt
needs a token of a grant that this installation has issued.

Examples:
  guestpass profile import guests.csv --client shop-web
  zcat guests.csv.gz | guestpass profile import - --client shop-web";

pub(super) async fn run(
    args: &Args,
    config: &Config,
    opened: &Opened,
    output: Output,
) -> Result<(), Failure> {
    let import = Import::prepare(args, config, opened).await?;
    let mut counted = import.check().await?;
    import.insert(&counted).await?;
    import.erase_again(&mut counted, config, opened).await?;
    let Counted {
        new,
        present,
        erased,
    } = counted;
    let new = new.len();
    let described = json!({"imported": new, "present": present, "erased": erased});
    output.print(&described, || {
        format!(
            "imported {new} guests. {present} were there already, {erased} have been erased here and stay so"
        )
    })?;
    Ok(())
}

/// An import of one file.
struct Import<'a> {
    file: Input,
    store: &'a dyn Store,
    clients: Vec<Client>,
    /// The client given by `--client`, if any.
    client: Option<ClientNumber>,
    erased: Option<Erased>,
    now: Timestamp,
}

/// The tombstones of erased guests, and the keys to compute those of imported ones.
struct Erased {
    hashes: HashSet<RevokedId>,
    keys: std::sync::Arc<Keys>,
}

/// A guest, and the number of its line.
struct Line {
    number: u64,
    profile: Profile,
}

/// Counts the guests of a file.
#[derive(Default)]
struct Counted {
    new: HashSet<ProfileId>,
    present: u64,
    erased: u64,
}

impl<'a> Import<'a> {
    async fn prepare(args: &'a Args, config: &Config, opened: &'a Opened) -> Result<Self, Failure> {
        let store = &*opened.store;
        let file = Input::open(&args.file)?;
        let (_, clients) = store.clients().await?;
        let client = match &args.client {
            None => None,
            Some(id) => Some(
                number(&clients, id.as_str())
                    .ok_or_else(|| client::explain(ChangeError::ClientUnknown.into(), id))?,
            ),
        };
        let hashes = erased(store).await?;
        let erased = match hashes.is_empty() {
            true => None,
            false => Some(Erased {
                hashes,
                keys: open_keys(config, opened).await?.now(),
            }),
        };
        Ok(Self {
            file,
            store,
            clients,
            client,
            erased,
            now: opened.clock.now(),
        })
    }

    /// Checks the whole file before anything is written, and reports its problems together.
    async fn check(&self) -> Result<Counted, Failure> {
        let (mut reader, columns) = self.open()?;
        let mut problems = Problems::default();
        let mut lines: HashMap<ProfileId, u64> = HashMap::new();
        let mut subns: HashMap<NetworkId, Holder> = HashMap::new();
        let mut counted = Counted::default();
        let mut part = Vec::new();
        for record in reader.records() {
            match self.read(record, &columns)? {
                Err((number, problem)) => problems.add(number, &problem),
                Ok(line) => {
                    let (id, subn, number) =
                        (line.profile.id, line.profile.network_id, line.number);
                    let holder = *subns.entry(subn).or_insert(Holder { id, number });
                    if let Some(first) = lines.insert(id, number) {
                        problems.add(number, &format!("sub {id} stands on line {first} already"));
                    } else if holder.id != id {
                        let first = holder.number;
                        problems.add(
                            number,
                            &format!("subn {subn} stands on line {first} already, for another sub"),
                        );
                    } else if self.is_erased(id) {
                        counted.erased += 1;
                    } else {
                        part.push(line);
                    }
                }
            }
            if part.len() == PART {
                self.check_part(&mut part, &mut counted, &mut problems)
                    .await?;
            }
        }
        self.check_part(&mut part, &mut counted, &mut problems)
            .await?;
        if !counted.new.is_empty() {
            self.check_holders(&subns, &mut problems).await?;
        }
        problems.none_or_failure(&self.file.name)?;
        Ok(counted)
    }

    /// Checks that no guest that is there already holds a `subn` of the file under another `sub`. The store has no index of
    /// them, so it reads every guest.
    async fn check_holders(
        &self,
        subns: &HashMap<NetworkId, Holder>,
        problems: &mut Problems,
    ) -> Result<(), Failure> {
        let mut after = None;
        loop {
            let known = self.store.profiles(after, LOOKED_AT).await?;
            for profile in &known {
                match subns.get(&profile.network_id) {
                    Some(Holder { id, number }) if *id != profile.id => {
                        let Profile { id, network_id, .. } = profile;
                        problems.add(
                            *number,
                            &format!("subn {network_id} is that of guest {id} already"),
                        );
                    }
                    _ => {}
                }
            }
            match known.last() {
                Some(last) if known.len() == LOOKED_AT => after = Some(last.id),
                _ => return Ok(()),
            }
        }
    }

    async fn check_part(
        &self,
        part: &mut Vec<Line>,
        counted: &mut Counted,
        problems: &mut Problems,
    ) -> Result<(), Failure> {
        let known = self.known(part).await?;
        for line in part.drain(..) {
            match known.get(&line.profile.id) {
                None => {
                    counted.new.insert(line.profile.id);
                }
                Some(known) if *known == line.profile => counted.present += 1,
                Some(known) => problems.add(line.number, &self.difference(known, &line.profile)),
            }
        }
        Ok(())
    }

    /// Adds the guests of a file that was checked.
    async fn insert(&self, counted: &Counted) -> Result<(), Failure> {
        let (mut reader, columns) = self.open()?;
        let all = counted.new.len() as u64 + counted.present;
        let mut progress = Progress::new("imported guests".to_owned(), all);
        let (mut part, mut done) = (Vec::new(), 0);
        for record in reader.records() {
            let line = self
                .read(record, &columns)?
                .map_err(|(number, problem)| self.problem(number, &problem))?;
            if !self.is_erased(line.profile.id) {
                part.push(line);
            }
            if part.len() == PART {
                done += self.insert_part(&mut part).await?;
                progress.at(done);
            }
        }
        done += self.insert_part(&mut part).await?;
        progress.at(done);
        Ok(())
    }

    /// Inserts guests and reads them back, so that a write by another process since the check shows as a difference.
    async fn insert_part(&self, part: &mut Vec<Line>) -> Result<u64, Failure> {
        let profiles = part.iter().map(|line| line.profile.clone()).collect();
        self.store.insert_profiles(profiles).await?;
        let known = self.known(part).await?;
        let inserted = part.len() as u64;
        for line in part.drain(..) {
            match known.get(&line.profile.id) {
                Some(known) if *known == line.profile => {}
                Some(known) => {
                    let problem = self.difference(known, &line.profile);
                    return Err(self.problem(line.number, &problem));
                }
                None => return Err(self.problem(line.number, "the guest was erased meanwhile")),
            }
        }
        Ok(inserted)
    }

    /// Erases those guests again that a server erased while they were inserted: what was asked for there stays done. An
    /// erasure that is still under way takes a second look itself.
    async fn erase_again(
        &self,
        counted: &mut Counted,
        config: &Config,
        opened: &Opened,
    ) -> Result<(), Failure> {
        let mut hashes = erased(self.store).await?;
        if let Some(before) = &self.erased {
            hashes.retain(|hash| !before.hashes.contains(hash));
        }
        if hashes.is_empty() {
            return Ok(());
        }
        let keys = open_keys(config, opened).await?.now();
        let (mut reader, columns) = self.open()?;
        for record in reader.records() {
            let line = self
                .read(record, &columns)?
                .map_err(|(number, problem)| self.problem(number, &problem))?;
            let (id, at) = (line.profile.id, opened.clock.now());
            let hash = keys.tombstone(id);
            if hashes.contains(&hash) {
                let erase = Write::EraseGuest(id, Tombstone { hash, at });
                self.store.write(erase).await?;
                counted.erased += 1;
                if !counted.new.remove(&id) {
                    counted.present = counted.present.saturating_sub(1);
                }
            }
        }
        Ok(())
    }

    async fn known(&self, part: &[Line]) -> Result<HashMap<ProfileId, Profile>, Failure> {
        let ids = part.iter().map(|line| line.profile.id).collect();
        let known = self.store.known_profiles(ids).await?;
        Ok(known
            .into_iter()
            .map(|profile| (profile.id, profile))
            .collect())
    }

    fn open(&self) -> Result<(Reader<impl Read>, Columns), Failure> {
        let problem = |problem: &dyn std::fmt::Display| self.failure(problem);
        let mut reader = ReaderBuilder::new()
            .trim(Trim::All)
            .from_reader(self.file.read().map_err(|error| problem(&error))?);
        let header = reader.headers().map_err(|error| problem(&error))?;
        let times = |name: &str| header.iter().filter(|column| *column == name).count();
        if let Some(twice) = NAMES.into_iter().find(|name| times(name) > 1) {
            return Err(problem(&format!(
                "line 1: there is more than one column {twice}"
            )));
        }
        let at = |name| header.iter().position(|column| column == name);
        let columns = match (at("sub"), at("subn"), at("created_at")) {
            (Some(sub), Some(subn), Some(created_at)) => Columns {
                sub,
                subn,
                created_at,
                client_id: at("client_id"),
            },
            _ => {
                return Err(problem(
                    &"the first line must name the columns sub, subn and created_at",
                ));
            }
        };
        if columns.client_id.is_none() && self.client.is_none() {
            return Err(problem(
                &"there is no column client_id. Say whose guests they are: --client ID",
            ));
        }
        Ok((reader, columns))
    }

    /// Parses a record: a line, or its number and its problem. The outer error ends the import.
    fn read(
        &self,
        record: csv::Result<StringRecord>,
        columns: &Columns,
    ) -> Result<Result<Line, (u64, String)>, Failure> {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                let problem = match error.kind() {
                    ErrorKind::UnequalLengths {
                        expected_len, len, ..
                    } => format!("{len} fields, where the first line has {expected_len}"),
                    ErrorKind::Utf8 { .. } => "this is not UTF-8".to_owned(),
                    _ => return Err(self.failure(&error)),
                };
                let number = error.position().map_or(0, csv::Position::line);
                return Ok(Err((number, problem)));
            }
        };
        let number = record.position().map_or(0, csv::Position::line);
        Ok(self
            .profile(&record, columns)
            .map(|profile| Line { number, profile })
            .map_err(|problem| (number, problem)))
    }

    fn profile(&self, record: &StringRecord, columns: &Columns) -> Result<Profile, String> {
        let field = |at: usize| record.get(at).unwrap_or_default();
        let of_file = columns.client_id.map(field);
        let client = match (self.client, of_file) {
            (Some(number), _) => number,
            (None, None | Some("")) => {
                return Err("client_id is empty: say whose guest it is with --client".to_owned());
            }
            (None, Some(id)) => number(&self.clients, id)
                .ok_or_else(|| format!("client_id: there is no client {id}"))?,
        };
        let created_at = time(field(columns.created_at))?;
        if created_at > self.now {
            return Err("created_at: that is still to come".to_owned());
        }
        let named = |name: &str, problem: &str| format!("{name}: {problem}");
        Ok(Profile {
            id: field(columns.sub).parse().map_err(|e| named("sub", e))?,
            network_id: field(columns.subn).parse().map_err(|e| named("subn", e))?,
            client,
            created_at,
        })
    }

    fn is_erased(&self, id: ProfileId) -> bool {
        self.erased
            .as_ref()
            .is_some_and(|erased| erased.hashes.contains(&erased.keys.tombstone(id)))
    }

    fn difference(&self, known: &Profile, line: &Profile) -> String {
        let name = |number| {
            self.clients
                .iter()
                .find(|client| client.number == number)
                .map_or("a removed client", |client| client.id.as_str())
        };
        let what = if known.network_id != line.network_id {
            format!("the subn {}", known.network_id)
        } else if known.client == line.client {
            format!("the created_at {}", super::exact_rfc3339(known.created_at))
        } else {
            format!("the client_id {}", name(known.client))
        };
        format!("guest {} is there already, with {what}", known.id)
    }

    fn problem(&self, number: u64, problem: &str) -> Failure {
        self.failure(&format!("line {number}: {problem}"))
    }

    fn failure(&self, problem: &dyn std::fmt::Display) -> Failure {
        let problem = problem.to_string();
        Failure(format!("{}: {problem}", self.file.name))
    }
}

/// The columns that are read.
const NAMES: [&str; 4] = ["sub", "subn", "created_at", "client_id"];

/// The guest that has a `subn` in the file, and its first line.
#[derive(Clone, Copy)]
struct Holder {
    id: ProfileId,
    number: u64,
}

/// The positions of the columns.
struct Columns {
    sub: usize,
    subn: usize,
    created_at: usize,
    client_id: Option<usize>,
}

/// The problems of a file: the first few, and their number.
#[derive(Default)]
struct Problems {
    first: Vec<String>,
    number: u64,
}

impl Problems {
    fn add(&mut self, line: u64, problem: &str) {
        self.number += 1;
        if self.first.len() < SHOWN {
            self.first.push(format!("line {line}: {problem}"));
        }
    }

    fn none_or_failure(self, file: &str) -> Result<(), Failure> {
        if self.number == 0 {
            return Ok(());
        }
        for problem in &self.first {
            terminal::say(&format!("{file}: {problem}"));
        }
        let more = match self.number - self.first.len() as u64 {
            0 => String::new(),
            more => format!(", of which {more} aren't shown"),
        };
        Err(Failure(format!(
            "{file}: {} lines can't be imported{more}, so none was",
            self.number
        )))
    }
}

/// The problems that are shown.
const SHOWN: usize = 20;

/// The guests that are read and written at once.
const PART: usize = 1_000;

/// The guests that are read at once where nothing is written.
const LOOKED_AT: usize = 10_000;

async fn erased(store: &dyn Store) -> Result<HashSet<RevokedId>, Failure> {
    let mut hashes = HashSet::new();
    let mut after = (Timestamp::from_millis(i64::MIN), [0; 16]);
    loop {
        let part = store
            .revoked_after(RevokedList::Guests, after, PART)
            .await?;
        hashes.extend(part.iter().map(|(_, hash)| *hash));
        match part.last() {
            Some(last) => after = *last,
            None => return Ok(hashes),
        }
    }
}

fn number(clients: &[Client], id: &str) -> Option<ClientNumber> {
    clients
        .iter()
        .find(|client| client.id.as_str() == id)
        .map(|client| client.number)
}

fn time(text: &str) -> Result<Timestamp, String> {
    if let Ok(number) = text.parse::<i64>() {
        return match number {
            ..LEAST_MILLIS => Err(format!(
                "created_at: {number} is no number of milliseconds since 1970; seconds, perhaps?"
            )),
            millis => Ok(Timestamp::from_millis(millis)),
        };
    }
    humantime::parse_rfc3339(text)
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
        .and_then(|passed| i64::try_from(passed.as_millis()).ok())
        .map(Timestamp::from_millis)
        .ok_or_else(|| {
            "created_at: write 2026-01-31T12:00:00Z, or milliseconds since 1970".to_owned()
        })
}

/// The least number that is read as milliseconds: 1973. As seconds it would be the year 5138, so seconds are found out.
const LEAST_MILLIS: i64 = 100_000_000_000;
