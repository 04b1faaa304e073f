//! The check of a whole file before anything is written.

use std::collections::{HashMap, HashSet};

use guestpass_core::profile::{NetworkId, Profile, ProfileId};

use super::file::{Line, LineProblem};
use super::{Import, PART};
use crate::cli::Failure;
use crate::terminal;

/// Counts the guests of a file.
#[derive(Debug, Default)]
pub struct Counted {
    /// Those that will be added.
    pub new: HashSet<ProfileId>,
    /// Those that are there already, with the same values.
    pub present: u64,
    /// Those that were erased here.
    pub erased: u64,
    /// Those, new or there already, whose `sub` many programs round.
    pub inexact: u64,
    /// Those, new or there already, that will be linked to a customer.
    pub linked: u64,
    /// Those that stay unlinked, because their link was undone here later.
    pub unlinked: u64,
}

impl Import<'_> {
    /// Checks the whole file before anything is written, and reports its problems together.
    ///
    /// # Errors
    /// Returns a sentence if the file or the store can't be read, or a line can't be imported.
    pub async fn check(&self) -> Result<Counted, Failure> {
        let mut problems = Problems::default();
        let mut lines: HashMap<ProfileId, u64> = HashMap::new();
        let mut subns: HashMap<NetworkId, Holder> = HashMap::new();
        let mut counted = Counted::default();
        let mut part = Vec::new();
        for line in self.file.lines()? {
            match line? {
                Err(LineProblem { number, problem }) => problems.add(number, &problem),
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
        problems.none_or_failure(self.file.name())?;
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
            let known = known.get(&line.profile.id);
            if let Some(known) = known
                && !is_same(known, &line.profile)
            {
                problems.add(line.number, &self.difference(known, &line.profile));
                continue;
            }
            counted.inexact += u64::from(!line.profile.id.is_exact_as_double());
            match known {
                None => {
                    counted.new.insert(line.profile.id);
                }
                Some(_) => counted.present += 1,
            }
            if line.profile.link.is_some() && known.is_none_or(|known| known.link.is_none()) {
                match self.is_undone(&line.profile) {
                    true => counted.unlinked += 1,
                    false => counted.linked += 1,
                }
            }
        }
        Ok(())
    }

    pub(super) fn difference(&self, known: &Profile, line: &Profile) -> String {
        let name = |number| {
            self.file
                .clients()
                .iter()
                .find(|client| client.number == number)
                .map_or("a removed client", |client| client.id.as_str())
        };
        let what = if known.network_id != line.network_id {
            format!("the subn {}", known.network_id)
        } else if known.client == line.client && known.created_at == line.created_at {
            let customer = known.link.as_ref().map(|link| link.customer.as_str());
            format!("the customer {}", customer.unwrap_or_default())
        } else if known.client == line.client {
            format!("the created_at {}", known.created_at.to_rfc3339())
        } else {
            format!("the client_id {}", name(known.client))
        };
        format!("guest {} is there already, with {what}", known.id)
    }
}

/// Tells whether the guest of a line is there already, and isn't linked to another customer.
pub(super) fn is_same(known: &Profile, line: &Profile) -> bool {
    let customers = [known, line].map(|profile| profile.link.as_ref().map(|link| &link.customer));
    if let [Some(known), Some(wanted)] = customers
        && known != wanted
    {
        return false;
    }
    let values = |profile: &Profile| {
        (
            profile.id,
            profile.network_id,
            profile.client,
            profile.created_at,
        )
    };
    values(known) == values(line)
}

/// The guest that has a `subn` in the file, and its first line.
#[derive(Clone, Copy)]
struct Holder {
    id: ProfileId,
    number: u64,
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

/// The guests that are read at once where nothing is written.
const LOOKED_AT: usize = 10_000;
