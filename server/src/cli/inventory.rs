//! Recognises what is there at a start: an installation, a part of one, or nothing. A part is refused, because
//! whoever goes on with it refuses every guest of the rest for good.
//!
//! [`Files::lack`] and [`Contents::lack`] decide on what was found; [`Files::look`] and [`Contents::look`] find it.

use std::fmt;
use std::fs;
use std::path::Path;

use super::Failure;
use crate::config::{Config, Database};
use crate::files::{resolved, with_suffix};
use crate::journal::{Entry, Journal, JournalError};
use crate::store::transfer::Table;
use crate::store::{Store, Unavailable};

/// The files of an embedded database and what lies beside them, before the database is opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Files {
    pub(super) database: DatabaseFile,
    /// SQLite's log beside the database holds something.
    has_log: bool,
    /// There is a master key in the data directory. One that is given from elsewhere says nothing.
    has_own_key: bool,
    journal: JournalSays,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum DatabaseFile {
    Missing,
    Empty,
    Something,
}

/// Says how much a journal proves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum JournalSays {
    Nothing,
    /// A server has run.
    Served,
    /// There were guests: one was erased, or something of one was revoked.
    Guests,
}

/// A part of an installation that is missing while the rest is there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Lack {
    /// The database, whose log is there.
    DatabaseOfLog,
    /// The database, while the journal says that it was served.
    DatabaseOfJournal,
    /// The contents of the database, whose master key is there.
    ContentsOfDatabase,
    /// The database, whose master key is there; or that is a new installation with a prepared key.
    DatabaseOfKey,
    /// The keys.
    Keys,
    /// The marks that the journal has.
    Marks,
    /// All clients.
    Clients,
}

impl Files {
    pub(super) fn look(config: &Config) -> Result<Self, JournalError> {
        let (database, has_log) = match &config.database {
            Database::Sqlite(file) => (DatabaseFile::look(file), has_log(file)),
            Database::Postgres(_) => (DatabaseFile::Something, false),
        };
        Ok(Self {
            database,
            has_log,
            has_own_key: config.master_key.is_none()
                && config.master_key_file.starts_with(&config.data_dir)
                && config.master_key_file.exists(),
            journal: JournalSays::look(&config.journal)?,
        })
    }

    /// Decides what is missing, if a part is there. `None` for an installation, and for nothing at all.
    pub(super) fn lack(&self) -> Option<Lack> {
        match self.database {
            DatabaseFile::Something => None,
            _ if self.has_log => Some(Lack::DatabaseOfLog),
            _ if self.journal != JournalSays::Nothing => Some(Lack::DatabaseOfJournal),
            DatabaseFile::Empty if self.has_own_key => Some(Lack::ContentsOfDatabase),
            DatabaseFile::Missing if self.has_own_key => Some(Lack::DatabaseOfKey),
            DatabaseFile::Empty | DatabaseFile::Missing => None,
        }
    }
}

impl DatabaseFile {
    fn look(file: &Path) -> Self {
        match fs::metadata(file) {
            Ok(found) if found.len() == 0 => Self::Empty,
            Ok(_) => Self::Something,
            Err(_) => Self::Missing,
        }
    }
}

/// Returns whether SQLite's log beside a database holds something: it was not closed, or is in use.
fn has_log(database: &Path) -> bool {
    let real = resolved(database).unwrap_or_else(|_| database.to_owned());
    fs::metadata(with_suffix(&real, "-wal")).is_ok_and(|log| log.len() > 0)
}

impl JournalSays {
    /// Looks at the end of a journal, until something there is about a guest. A mark counts once the database has it.
    pub(super) fn look(journal: &Path) -> Result<Self, JournalError> {
        let mut says = Self::Nothing;
        for entry in Journal::entries_from_end(journal)? {
            match entry?.1 {
                Entry::Mark(_) => {}
                Entry::MarkStored(_) => says = Self::Served,
                Entry::GrantRevoked(..)
                | Entry::AccessTokenRevoked(_)
                | Entry::GuestErased(_)
                | Entry::LinkUndone(_) => {
                    return Ok(Self::Guests);
                }
            }
        }
        Ok(says)
    }
}

/// Describes the contents of an opened database.
#[derive(Clone, Copy, Debug)]
pub(super) struct Contents {
    has_keys: bool,
    /// It had keys once, for it knows its master key.
    had_keys: bool,
    has_clients: bool,
    /// It had clients once, for it has given a number to one.
    had_clients: bool,
    has_marks: bool,
    journal: JournalSays,
}

impl Contents {
    pub(super) async fn look(store: &dyn Store, journal: JournalSays) -> Result<Self, Unavailable> {
        let installation = store.installation().await?;
        let row = store.installation_row().await?;
        Ok(Self {
            has_keys: !installation.keys.is_empty(),
            had_keys: installation.master_key_check.is_some(),
            has_clients: store.count(Table::Clients).await? > 0,
            had_clients: row.next_client_number > 1,
            has_marks: store.count(Table::JournalMarks).await? > 0,
            journal,
        })
    }

    /// Decides what is missing.
    pub(super) fn lack(&self) -> Option<Lack> {
        let was_served = self.journal != JournalSays::Nothing;
        let had_guests = self.journal == JournalSays::Guests || (was_served && self.had_clients);
        if !self.has_keys && (self.had_keys || was_served) {
            Some(Lack::Keys)
        } else if !self.has_marks && was_served {
            Some(Lack::Marks)
        } else if !self.has_clients && had_guests {
            Some(Lack::Clients)
        } else {
            None
        }
    }
}

impl Lack {
    /// Says what is missing, what proves it, and what to do.
    pub(super) fn failure(self, config: &Config) -> Failure {
        let (journal, key) = (config.journal.display(), config.master_key_file.display());
        let database = match &config.database {
            Database::Sqlite(file) => file.display().to_string(),
            postgres @ Database::Postgres(_) => postgres.to_string(),
        };
        let anew = "or, to begin anew without the guests that were there, type: guestpass db migrate --new";
        let bring_back = format!(
            "Bring back the database from a backup and leave the journal where it is; {anew}"
        );
        let text: &dyn fmt::Display = match self {
            Self::DatabaseOfLog => &format!(
                "the database {database} is missing or empty, but its log is there, {database}-wal, which no other file \
                 can replace. Bring back the database to which that log belongs; or move the log away, and bring back a \
                 backup"
            ),
            Self::DatabaseOfJournal => &format!(
                "the database {database} is missing or empty, but the journal {journal} says that it was served. \
                 {bring_back}"
            ),
            Self::ContentsOfDatabase => &format!(
                "the database {database} is empty, but its master key is there, {key}. {bring_back}"
            ),
            Self::DatabaseOfKey => &format!(
                "there is a master key, {key}, but not the database that belongs to it, {database}. Bring that back; or, \
                 if this is a new installation with a prepared key, make an empty one: guestpass db migrate"
            ),
            Self::Keys => &format!(
                "the database {database} has no keys, without which every guest is refused, though it had some or the \
                 journal {journal} says that it was served. {bring_back}"
            ),
            Self::Marks => &format!(
                "the database {database} was never served, but the journal {journal} says that one was: this is not the \
                 database that belongs to it. {bring_back}"
            ),
            Self::Clients => &format!(
                "the database {database} has no clients, but it had some when it was served, or the journal {journal} says \
                 that there were guests, who would all be refused. Bring back the database from a backup and leave the journal where it is; or, if \
                 you have removed all clients, add one: guestpass client add ID"
            ),
        };
        Failure(text.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_an_installation_is_told_from_a_new_one() {
        use DatabaseFile::{Empty, Missing, Something};
        use JournalSays::{Guests, Nothing, Served};
        for (database, has_log, has_own_key, journal, lack) in [
            (Missing, false, false, Nothing, None),
            (Empty, false, false, Nothing, None),
            (Something, true, true, Guests, None),
            (Something, false, false, Nothing, None),
            (Missing, false, true, Nothing, Some(Lack::DatabaseOfKey)),
            (Empty, false, true, Nothing, Some(Lack::ContentsOfDatabase)),
            (Missing, false, false, Served, Some(Lack::DatabaseOfJournal)),
            (Empty, false, true, Guests, Some(Lack::DatabaseOfJournal)),
            (Empty, true, true, Guests, Some(Lack::DatabaseOfLog)),
            (Missing, true, false, Nothing, Some(Lack::DatabaseOfLog)),
        ] {
            let files = Files {
                database,
                has_log,
                has_own_key,
                journal,
            };
            assert_eq!(files.lack(), lack, "{files:?}");
        }
    }

    #[test]
    fn a_database_that_holds_less_than_it_held_is_noticed() {
        use JournalSays::{Guests, Nothing, Served};
        let whole = Contents {
            has_keys: true,
            had_keys: true,
            has_clients: true,
            had_clients: true,
            has_marks: true,
            journal: Guests,
        };
        let without_clients = Contents {
            has_clients: false,
            ..whole
        };
        let never_had_clients = Contents {
            had_clients: false,
            ..without_clients
        };
        let without_keys = Contents {
            has_keys: false,
            ..whole
        };
        let without_marks = Contents {
            has_marks: false,
            ..whole
        };
        let new = Contents {
            has_keys: false,
            had_keys: false,
            has_marks: false,
            ..never_had_clients
        };
        for (contents, journal, lack) in [
            (new, Nothing, None),
            (new, Served, Some(Lack::Keys)),
            (whole, Guests, None),
            (without_keys, Nothing, Some(Lack::Keys)),
            (without_marks, Nothing, None),
            (without_marks, Served, Some(Lack::Marks)),
            (never_had_clients, Served, None),
            (never_had_clients, Guests, Some(Lack::Clients)),
            (without_clients, Nothing, None),
            (without_clients, Served, Some(Lack::Clients)),
        ] {
            let contents = Contents {
                journal,
                ..contents
            };
            assert_eq!(contents.lack(), lack, "{contents:?}");
        }
    }
}
