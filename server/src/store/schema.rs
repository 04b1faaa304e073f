//! Versions of a schema, the same for all stores: which one a program can use, and the sentence for one that it can't.

use std::collections::BTreeSet;
use std::fmt;

use super::transfer::Table;

/// A step from one version of the schema to the next.
pub(super) struct Step {
    pub(super) name: &'static str,
    pub(super) sql: &'static str,
    /// The oldest version whose programs can use this one. A step that only adds leaves that where it was.
    pub(super) serves_since: usize,
}

/// The steps that a migration took, or would take.
#[derive(Clone, Debug)]
pub struct Migration {
    /// The version before; 0 if there was nothing.
    pub from: usize,
    /// The version after it.
    pub to: usize,
    /// The names of the steps between.
    pub steps: Vec<&'static str>,
}

impl Migration {
    /// From that version to the last one that `steps` lead to.
    pub(super) fn of(steps: &[Step], from: usize) -> Self {
        Self {
            from,
            to: from.max(steps.len()),
            steps: steps.iter().skip(from).map(|step| step.name).collect(),
        }
    }
}

/// Says why a database can't be used, and what to do about it. Each variant begins with the name of the database.
#[derive(Debug)]
pub enum SchemaError {
    /// There is nothing.
    Missing(String),
    /// It is older than this program.
    Older(String),
    /// It is newer than this program, and not made for it any more.
    Newer(String),
    /// It was made by an unreleased version whose schema had the same number and was another one; and in what it differs.
    Unreleased(String, String),
    /// It is the beginning of a copy.
    UnfinishedCopy(String),
    /// It must not be opened by that name, and why.
    OtherName(String, String),
    /// The log beside it belongs to another file, and where that log is.
    ForeignLog(String, String),
    /// A database lacks its log, as this says, and no server has said so yet.
    LackingLog(String),
    /// The log beside it is damaged: where that is, and the length up to which it can be read.
    DamagedLog(String, String, u64),
    /// It was not closed and is damaged, and in which way.
    Damaged(String, String),
    /// It can't be opened, and why.
    CannotOpen(String, String),
}

/// The columns of the table `installation`, which has one row.
const INSTALLATION: [&str; 10] = [
    "only_row",
    "installation_id",
    "master_key_check",
    "revision",
    "next_client_number",
    "issuer",
    "seen_at",
    "time_resets",
    "events_recorded",
    "unfinished_copy",
];

/// The columns of the row that the readiness check changes. A copy leaves it behind.
const PROBE: [&str; 2] = ["only_row", "writes"];

/// The columns of the leases. A copy leaves them behind.
const LEASES: [&str; 3] = ["lease", "node", "until"];

impl SchemaError {
    /// Decides whether this program, of version `own`, can use version `found` of a schema that serves programs since version
    /// `serves_since`.
    pub(super) fn of(
        database: &dyn fmt::Display,
        found: usize,
        serves_since: usize,
        own: usize,
    ) -> Result<(), Self> {
        if found < own {
            Err(Self::Older(database.to_string()))
        } else if serves_since > own {
            Err(Self::Newer(database.to_string()))
        } else {
            Ok(())
        }
    }

    /// Compares the columns of a schema, as pairs of a table and a column, with those that this version makes. `extra` are
    /// those that only one backend has. A newer version may have added some.
    pub(super) fn compare(
        database: &dyn fmt::Display,
        found: &BTreeSet<(String, String)>,
        extra: &[(&str, &str)],
        is_newer: bool,
    ) -> Result<(), Self> {
        let of_tables = Table::ALL.into_iter().flat_map(|table| {
            let columns = table.columns().iter();
            columns.map(move |column| (table.name(), column.name()))
        });
        let of_installation = INSTALLATION.map(|column| ("installation", column));
        let of_probe = PROBE.map(|column| ("probe", column));
        let of_leases = LEASES.map(|column| ("leases", column));
        let extra = extra.iter().copied();
        let expected: BTreeSet<_> = of_tables
            .chain(of_installation)
            .chain(of_probe)
            .chain(of_leases)
            .chain(extra)
            .collect();
        let found: BTreeSet<_> = found
            .iter()
            .map(|(t, c)| (t.as_str(), c.as_str()))
            .collect();
        let missing = expected.difference(&found).next();
        let unknown = found.difference(&expected).next().filter(|_| !is_newer);
        let difference = match (missing, unknown) {
            (Some((table, column)), _) => format!("it lacks the column {table}.{column}"),
            (None, Some((table, column))) => format!("it has a column {table}.{column}"),
            (None, None) => return Ok(()),
        };
        Err(Self::Unreleased(database.to_string(), difference))
    }

    pub(crate) fn cannot_open(database: &dyn fmt::Display, error: &dyn fmt::Display) -> Self {
        Self::CannotOpen(database.to_string(), error.to_string())
    }
}

impl fmt::Display for SchemaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(database) => write!(
                f,
                "there is no installation in {database}. If that is the right place, `guestpass db migrate` makes one; \
                 if not, name the right one: --data-dir, or the setting database"
            ),
            Self::Older(database) => write!(
                f,
                "the database {database} was made by an older version. Run `guestpass db migrate`"
            ),
            Self::Newer(database) => write!(
                f,
                "the database {database} was made by a newer version of guestpass than this one, {}. Run that version, \
                 or restore a backup from before the upgrade",
                env!("CARGO_PKG_VERSION")
            ),
            Self::Unreleased(database, difference) => write!(
                f,
                "the database {database} was made by an unreleased version of guestpass, whose schema was another one: \
                 {difference}. No migration leads from there. Use the version that made it, or begin with an empty \
                 database"
            ),
            Self::UnfinishedCopy(database) => write!(
                f,
                "{database} is a copy that isn't finished. Go on with it where the source is: \
                 `guestpass db copy --to {database}`"
            ),
            Self::OtherName(database, problem) => {
                write!(
                    f,
                    "the database {database} can't be opened by this name: {problem}"
                )
            }
            Self::ForeignLog(database, log) => write!(
                f,
                "the log {log} doesn't belong to the database {database}: that was put in the place of another one, whose \
                 server had not been stopped. To go on with what is there now, as with a backup, remove {log} and \
                 {}-shm and start again; to go on with the other one, bring that back",
                log.trim_end_matches("-wal").trim_end_matches("-journal")
            ),
            Self::LackingLog(left) => write!(
                f,
                "{left}. Else start the server, which goes on without it, first: a command would remove the last trace of this"
            ),
            Self::DamagedLog(database, log, readable) => write!(
                f,
                "the database {database} was not closed, and its log, {log}, is damaged behind its first {readable} bytes, \
                 so that what follows can't be read: guests would be missing. Restore a backup, and remove {log} and \
                 {database}-shm first. To go on without what follows, keep a copy of the files and cut the log off there: \
                 truncate -s {readable} {log}"
            ),
            Self::Damaged(database, problem) => write!(
                f,
                "the database {database} was not closed and is damaged: {problem}. If a backup was copied over it, copy it \
                 again and remove {database}-wal and {database}-shm; else restore a backup in the same way"
            ),
            Self::CannotOpen(database, error) => {
                write!(f, "the database {database} can't be opened: {error}")
            }
        }
    }
}

impl std::error::Error for SchemaError {}
