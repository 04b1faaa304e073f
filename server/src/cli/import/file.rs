//! The file of an import: CSV, of which every line is a guest.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::time::UNIX_EPOCH;

use csv::{ErrorKind, Reader, ReaderBuilder, StringRecord, Trim};
use guestpass_core::client::{Client, ClientNumber};
use guestpass_core::customer::Link;
use guestpass_core::profile::{Profile, ProfileId};
use guestpass_core::time::Timestamp;

use crate::cli::Failure;

/// A file of guests, which can be read more than once.
pub struct GuestFile {
    name: String,
    file: File,
    clients: Vec<Client>,
    client: Option<ClientNumber>,
    now: Timestamp,
}

/// A guest, and the number of its line.
#[derive(Debug)]
pub struct Line {
    /// The number of the line, beginning with 1.
    pub number: u64,
    /// The guest.
    pub profile: Profile,
}

/// A line that can't be read.
#[derive(Debug)]
pub struct LineProblem {
    /// The number of the line, beginning with 1.
    pub number: u64,
    /// The problem, with the name of the column.
    pub problem: String,
}

impl GuestFile {
    /// Takes a file by the name that problems are reported with. Its guests are those of `clients`, and of `client` alone,
    /// whatever the file says, if that is given; `now` is the end of the past.
    #[must_use]
    pub fn new(
        name: String,
        file: File,
        clients: Vec<Client>,
        client: Option<ClientNumber>,
        now: Timestamp,
    ) -> Self {
        Self {
            name,
            file,
            clients,
            client,
            now,
        }
    }

    /// Reads the file from its start, line by line. The outer error ends the import.
    ///
    /// # Errors
    /// Returns a sentence if the file can't be read or its first line doesn't name the columns.
    pub fn lines(
        &self,
    ) -> Result<impl Iterator<Item = Result<Result<Line, LineProblem>, Failure>>, Failure> {
        let (reader, columns) = self.open()?;
        let records = reader.into_records();
        Ok(records.map(move |record| self.read(record, &columns)))
    }

    fn open(&self) -> Result<(Reader<impl Read>, Columns), Failure> {
        let problem = |problem: &dyn std::fmt::Display| self.failure(problem);
        let mut reader = ReaderBuilder::new()
            .trim(Trim::All)
            .from_reader(self.rewound().map_err(|error| problem(&error))?);
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
                customer: at("customer"),
                linked_at: at("linked_at"),
                seen_at: at("seen_at"),
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

    fn rewound(&self) -> io::Result<impl Read> {
        let mut file = &self.file;
        file.rewind()?;
        Ok(file)
    }

    fn read(
        &self,
        record: csv::Result<StringRecord>,
        columns: &Columns,
    ) -> Result<Result<Line, LineProblem>, Failure> {
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
                return Ok(Err(LineProblem { number, problem }));
            }
        };
        let number = record.position().map_or(0, csv::Position::line);
        Ok(self
            .profile(&record, columns)
            .map(|profile| Line { number, profile })
            .map_err(|problem| LineProblem { number, problem }))
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
        let created_at = time("created_at", field(columns.created_at))?;
        if created_at > self.now {
            return Err("created_at: that is still to come".to_owned());
        }
        let named = |name: &str, problem: &str| format!("{name}: {problem}");
        let id: ProfileId = field(columns.sub).parse().map_err(|e| named("sub", e))?;
        if id.is_to_come(self.now) {
            return Err(format!(
                "sub: {id} is one that this installation will give to a new guest later"
            ));
        }
        let network_id = field(columns.subn).parse().map_err(|e| named("subn", e))?;
        Ok(Profile {
            seen_at: Some(self.seen_at(columns.seen_at.map(field))?),
            link: self.link(columns.customer.map(field), columns.linked_at.map(field))?,
            ..Profile::new(id, network_id, client, created_at)
        })
    }

    /// Reads when a guest was last here: at the time of the file, or now, when it is imported.
    fn seen_at(&self, seen_at: Option<&str>) -> Result<Timestamp, String> {
        match seen_at {
            Some(text) if !text.is_empty() => match time("seen_at", text)? {
                at if at > self.now => Err("seen_at: that is still to come".to_owned()),
                at => Ok(at),
            },
            _ => Ok(self.now),
        }
    }

    /// Reads which customer a guest is: since the time of the file, or from now on.
    fn link(
        &self,
        customer: Option<&str>,
        linked_at: Option<&str>,
    ) -> Result<Option<Link>, String> {
        let given = |field: Option<&str>| field.filter(|text| !text.is_empty()).is_some();
        let customer = match customer {
            Some(text) if !text.is_empty() => text,
            _ if given(linked_at) => return Err("linked_at: there is no customer".to_owned()),
            _ => return Ok(None),
        };
        let at = match linked_at {
            Some(text) if !text.is_empty() => time("linked_at", text)?,
            _ => self.now,
        };
        if at > self.now {
            return Err("linked_at: that is still to come".to_owned());
        }
        let customer = customer
            .parse()
            .map_err(|problem| format!("customer: {problem}"))?;
        let by = None;
        Ok(Some(Link { customer, at, by }))
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn clients(&self) -> &[Client] {
        &self.clients
    }

    /// Says what is wrong with a line.
    pub(super) fn problem(&self, LineProblem { number, problem }: &LineProblem) -> Failure {
        self.failure(&format!("line {number}: {problem}"))
    }

    fn failure(&self, problem: &dyn std::fmt::Display) -> Failure {
        Failure(format!("{}: {problem}", self.name))
    }
}

/// Renders a guest as a line that can be read again, under [`HEADER`].
#[must_use]
pub fn line_of(profile: &Profile, client_id: &str) -> String {
    let created_at = profile.created_at.to_rfc3339();
    let (customer, linked_at) = match &profile.link {
        Some(link) => (link.customer.as_str(), link.at.to_rfc3339()),
        None => ("", String::new()),
    };
    let seen_at = profile
        .seen_at
        .map(Timestamp::to_rfc3339)
        .unwrap_or_default();
    // No field can hold a comma or a quote.
    format!(
        "{},{},{client_id},{created_at},{customer},{linked_at},{seen_at}",
        profile.id, profile.network_id
    )
}

/// The first line of an exported file.
pub const HEADER: &str = "sub,subn,client_id,created_at,customer,linked_at,seen_at";

/// The columns that are read.
const NAMES: [&str; 7] = [
    "sub",
    "subn",
    "created_at",
    "client_id",
    "customer",
    "linked_at",
    "seen_at",
];

/// The positions of the columns.
struct Columns {
    sub: usize,
    subn: usize,
    created_at: usize,
    client_id: Option<usize>,
    customer: Option<usize>,
    linked_at: Option<usize>,
    seen_at: Option<usize>,
}

pub(super) fn number(clients: &[Client], id: &str) -> Option<ClientNumber> {
    clients
        .iter()
        .find(|client| client.id.as_str() == id)
        .map(|client| client.number)
}

fn time(column: &str, text: &str) -> Result<Timestamp, String> {
    if let Ok(number) = text.parse::<i64>() {
        return match number {
            ..LEAST_MILLIS => Err(format!(
                "{column}: {number} is no number of milliseconds since 1970; seconds, perhaps?"
            )),
            millis => Ok(Timestamp::from_millis(millis)),
        };
    }
    humantime::parse_rfc3339(text)
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
        .and_then(|passed| i64::try_from(passed.as_millis()).ok())
        .map(Timestamp::from_millis)
        .ok_or_else(|| format!("{column}: write 2026-01-31T12:00:00Z, or milliseconds since 1970"))
}

/// The least number that is read as milliseconds: 1973. As seconds it would be the year 5138, so seconds are found out.
const LEAST_MILLIS: i64 = 100_000_000_000;
