//! `guestpass profile import`: adds guests that another system knows already, from CSV.

use std::collections::HashMap;
use std::sync::Arc;

use guestpass_core::client::{ChangeError, ClientId};
use guestpass_core::event::UnlinkedBy;
use guestpass_core::profile::{Profile, ProfileId};
use guestpass_core::time::Timestamp;
use serde_json::json;

use self::file::number;
use super::database::Opened;
use super::input::Input;
use super::master_key::open_keys;
use super::progress::Progress;
use super::{Failure, Output, client};
use crate::config::Config;
use crate::keys::Keys;
use crate::links;
use crate::store::{Outcome, RevokedId, RevokedList, Store, Tombstone, Write};
use crate::terminal;

mod check;
mod file;

pub use check::Counted;
pub use file::{GuestFile, HEADER, Line, LineProblem, line_of};

#[derive(clap::Args)]
pub(super) struct Args {
    /// CSV with a header: sub, subn, created_at, client_id unless --client is given, and customer, linked_at if you
    /// like; - is standard input
    #[arg(value_name = "FILE")]
    file: std::path::PathBuf,
    /// The client whose guests they are, whatever the file says
    #[arg(long, value_name = "ID")]
    client: Option<ClientId>,
}

pub(super) const AFTER_HELP: &str = "\
sub is a positive whole number below 2^63, subn a UUID, created_at a time as 2026-01-31T12:00:00Z or milliseconds since
1970. A sub that this installation will give to a new guest later is refused: of 16 digits, the numbers from
1140737488355328 on follow the time. A subn belongs to one guest: two with the same are refused. customer says which customer
of the shop the guest is, linked_at since when; seen_at when it was last here, else now. What `guestpass profile export` writes can be imported.

The whole file is checked first. Guests that are there already with the same values are left alone, so the same file can be
imported again. Those that were erased stay erased, and links that were undone here later stay undone. A guest that is there
without a customer is linked; one of another customer is an error.

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
    if opened.store.installation().await?.keys.is_empty() {
        // A start would take them for guests whose keys are lost.
        return Err(Failure(
            "there are no keys yet, and guests come after them. Start the server once, which makes them: guestpass serve"
                .to_owned(),
        ));
    }
    import.insert(&counted).await?;
    import.end_again(&mut counted, config, opened).await?;
    let Counted {
        new,
        present,
        erased,
        inexact,
        linked,
        unlinked,
    } = counted;
    let new = new.len();
    if inexact > 0 {
        terminal::say(&format!(
            "warning: {inexact} of them have a sub of 2^53 or more, which JavaScript and spreadsheets round if they read it as a \
             number: keep it as text everywhere"
        ));
    }
    let described = json!({
        "imported": new, "present": present, "erased": erased, "inexact": inexact,
        "linked": linked, "unlinked": unlinked,
    });
    output.print(&described, || {
        let mut lines = vec![format!(
            "imported {new} guests. {present} were there already, {erased} have been erased here and stay so"
        )];
        if linked + unlinked > 0 {
            lines.push(format!(
                "linked {linked} guests to customers. The links of {unlinked} have been undone here and stay so"
            ));
        }
        lines
    })?;
    Ok(())
}

/// An import of one file.
pub struct Import<'a> {
    /// The file.
    pub file: GuestFile,
    /// The store that its guests are added to.
    pub store: &'a dyn Store,
    /// The guests that were erased there, if any were.
    pub erased: Option<Erased>,
}

/// The tombstones of erased guests, and the keys to compute those of imported ones.
pub struct Erased {
    /// The tombstones of guests, and of links that were undone, with their times.
    pub hashes: HashMap<RevokedId, Timestamp>,
    /// The keys that they were made with.
    pub keys: Arc<Keys>,
}

impl<'a> Import<'a> {
    async fn prepare(args: &'a Args, config: &Config, opened: &'a Opened) -> Result<Self, Failure> {
        let store = &*opened.store;
        let Input { name, file } = Input::open(&args.file)?;
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
                keys: Arc::clone(&open_keys(config, opened).await?.now()),
            }),
        };
        Ok(Self {
            file: GuestFile::new(name, file, clients, client, opened.clock.now()),
            store,
            erased,
        })
    }

    /// Adds the guests of a file that was checked.
    async fn insert(&self, counted: &Counted) -> Result<(), Failure> {
        let all = counted.new.len() as u64 + counted.present;
        let mut progress = Progress::new("imported guests".to_owned(), all);
        let (mut part, mut done) = (Vec::new(), 0);
        for line in self.file.lines()? {
            let mut line = line?.map_err(|problem| self.file.problem(&problem))?;
            if self.is_undone(&line.profile) {
                line.profile.link = None;
            }
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
            let refused = |problem| {
                let number = line.number;
                self.file.problem(&LineProblem { number, problem })
            };
            match known.get(&line.profile.id) {
                Some(known) if check::is_same(known, &line.profile) => {
                    self.link(known, &line.profile).await?;
                }
                Some(known) => return Err(refused(self.difference(known, &line.profile))),
                None => return Err(refused("the guest was erased meanwhile".to_owned())),
            }
        }
        Ok(inserted)
    }

    /// Erases those guests again that a server erased while they were inserted, and undoes the links that it undid: what was asked
    /// for there stays done. An erasure, or the end of a link, that is still under way takes a second look itself.
    async fn end_again(
        &self,
        counted: &mut Counted,
        config: &Config,
        opened: &Opened,
    ) -> Result<(), Failure> {
        let before = |hash: &RevokedId| self.erased.as_ref()?.hashes.get(hash).copied();
        let mut hashes = erased(self.store).await?;
        hashes.retain(|hash, at| before(hash) < Some(*at));
        if hashes.is_empty() {
            return Ok(());
        }
        let keys = open_keys(config, opened).await?.now();
        for line in self.file.lines()? {
            let line = line?.map_err(|problem| self.file.problem(&problem))?;
            let (id, at) = (line.profile.id, opened.clock.now());
            let hash = keys.tombstone(id);
            // That of a guest moves once more, at the second look.
            if hashes.contains_key(&hash) && before(&hash).is_none() {
                let erase = Write::EraseGuest(id, Tombstone { hash, at }, None);
                self.store.write(erase).await?;
                counted.erased += 1;
                if !counted.new.remove(&id) {
                    counted.present = counted.present.saturating_sub(1);
                }
            }
            let Some(link) = &line.profile.link else {
                continue;
            };
            let hash = keys.tombstone_of_link(id, &link.customer);
            if let Some(at) = hashes.get(&hash).copied() {
                let (silent, by) = (opened.recorder(false), UnlinkedBy::Operator);
                let undone =
                    links::undo(self.store, &keys, &silent, id, Tombstone { hash, at }, by);
                if undone.await? == Outcome::Done {
                    counted.linked = counted.linked.saturating_sub(1);
                    counted.unlinked += 1;
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

    fn is_erased(&self, id: ProfileId) -> bool {
        self.erased
            .as_ref()
            .is_some_and(|erased| erased.hashes.contains_key(&erased.keys.tombstone(id)))
    }

    /// Returns whether the link of a line was undone here, later than it was made.
    fn is_undone(&self, line: &Profile) -> bool {
        let (Some(erased), Some(link)) = (&self.erased, &line.link) else {
            return false;
        };
        let hash = erased.keys.tombstone_of_link(line.id, &link.customer);
        erased.hashes.get(&hash).is_some_and(|at| link.at <= *at)
    }

    /// Links a guest that was there without a link.
    async fn link(&self, known: &Profile, line: &Profile) -> Result<(), Failure> {
        if line.link.is_none() || known.link.is_some() {
            return Ok(());
        }
        let linked = Profile {
            link: line.link.clone(),
            version: known.version + 1,
            ..known.clone()
        };
        match self.store.write(Write::ChangeProfile(linked, None)).await? {
            Outcome::Done | Outcome::More => Ok(()),
            Outcome::Conflict => Err(Failure(format!(
                "guest {} was changed meanwhile. Run the same command again",
                known.id
            ))),
        }
    }
}

/// The guests that are read and written at once.
const PART: usize = 1_000;

async fn erased(store: &dyn Store) -> Result<HashMap<RevokedId, Timestamp>, Failure> {
    let mut hashes = HashMap::new();
    let mut after = (Timestamp::from_millis(i64::MIN), [0; 16]);
    loop {
        let part = store
            .revoked_after(RevokedList::Guests, after, PART)
            .await?;
        hashes.extend(part.iter().map(|(at, hash)| (*hash, *at)));
        match part.last() {
            Some(last) => after = *last,
            None => return Ok(hashes),
        }
    }
}
