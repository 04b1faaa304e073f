//! `guestpass db copy`: from the embedded store to PostgreSQL.
//!
//! Table after table, in parts, both sides are read, and the target is made the same where it isn't. So whoever starts the
//! copy again goes on where it was, even if the source has changed since. When all is there, both sides are read once more
//! and compared; only then may anybody be served from the target.

use aws_lc_rs::digest::{Context, SHA256};
use serde_json::json;

use super::database::{self, Opened};
use super::lock::Lock;
use super::master_key::open_keys;
use super::progress::Progress;
use super::{Failure, Output, table};
use crate::config::{Config, Database};
use crate::random::SecureGenerator;
use crate::restore::has_lost;
use crate::store::Store;
use crate::store::postgres::{Connection, PostgresStore};
use crate::store::transfer::{InstallationRow, Key, Part, Row, Table, Value};
use crate::terminal;

pub(super) async fn run(to: &str, config: &Config, output: Output) -> Result<(), Failure> {
    let Database::Sqlite(file) = &config.database else {
        return Err(Failure(format!(
            "{} is in PostgreSQL already. Only an embedded database can be copied: name it with --data-dir, or the \
             setting database",
            config.database
        )));
    };
    let connection = config
        .postgres
        .connection(to)
        .map_err(|problem| Failure(format!("--to: {problem}")))?;
    if Connection::parse(to, 2, 1).is_ok_and(|given| given.has_password()) {
        terminal::say(
            "every user of this machine can read the password in --to in the list of processes. Put it into a file and \
             name that: postgres.password_file, in the configuration or as GUESTPASS_POSTGRES__PASSWORD_FILE",
        );
    }
    let lock = match file.exists() {
        true => Some(Lock::take(file, ", which copies it")?),
        false => None,
    };
    if lock.is_some()
        && let Some(left) = database::examine_locked(file).await?.left
        && left.is_suspicious()
    {
        terminal::say(&left.to_string());
    }
    let source = database::open_examined(config).await?;
    open_keys(config, &source).await?;
    let target = open_target(&connection).await?;
    let compared = match is_finished(&source, &target).await? {
        true => None,
        false => {
            require_journal(config, &source).await?;
            Some(move_all(config, &source, &target, &connection).await?)
        }
    };
    let printed = json!({
        "from": config.database.to_string(),
        "to": connection.to_string(),
        "copied": compared.is_some(),
        "tables": compared.iter().flatten().map(Compared::described).collect::<Vec<_>>(),
    });
    output.print(&printed, || match &compared {
        Some(compared) => finished(config, &connection, compared),
        None => vec![format!(
            "nothing to do: {connection} holds a finished copy of {}, and is not touched again",
            config.database
        )],
    })?;
    Ok(())
}

/// A table that was read on both sides, and was the same.
struct Compared {
    table: Table,
    rows: u64,
    sha256: String,
}

impl Compared {
    fn described(&self) -> serde_json::Value {
        json!({"table": self.table.name(), "rows": self.rows, "sha256": self.sha256})
    }
}

/// Tells whether the target holds all of this installation already, and may have gone on with it.
async fn is_finished(source: &Opened, target: &Opened) -> Result<bool, Failure> {
    let own = source.store.installation_row().await?;
    let found = target.store.installation_row().await?;
    Ok(found.id == own.id && !found.unfinished_copy)
}

/// Checks that the database lacks nothing of its journal: a copy must be complete.
async fn require_journal(config: &Config, source: &Opened) -> Result<(), Failure> {
    if has_lost(&*source.store, &config.journal).await? {
        return Err(Failure(format!(
            "{} lacks what its journal {} says, as after a restore. Start `guestpass serve` on it once, which repeats \
             that, and stop it again",
            config.database,
            config.journal.display()
        )));
    }
    Ok(())
}

/// Opens the target, first making the schema if there is nothing at all.
async fn open_target(connection: &Connection) -> Result<Opened, Failure> {
    if PostgresStore::pending(connection).await?.from == 0 {
        PostgresStore::migrate(connection, &SecureGenerator::new()).await?;
    }
    Ok(database::open_postgres(connection).await?)
}

/// Begins or goes on, and ends when all is there, the same, and of use to whoever has the configured master key.
async fn move_all(
    config: &Config,
    source: &Opened,
    target: &Opened,
    connection: &Connection,
) -> Result<Vec<Compared>, Failure> {
    let (from, to) = (&*source.store, &*target.store);
    if !to.begin_copy(from.installation_row().await?).await? {
        let another = match to.installation_row().await?.unfinished_copy {
            true => "the beginning of a copy of another installation",
            false => "another installation",
        };
        return Err(Failure(format!(
            "{connection} holds {another}, which is left as it is. Name an empty database: `guestpass db copy` makes the \
             tables itself"
        )));
    }
    copy(from, to).await?;
    let compared = compare(from, to).await?;
    open_keys(config, target).await?;
    match to.finish_copy().await? {
        true => Ok(compared),
        false => Err(interrupted()),
    }
}

async fn copy(from: &dyn Store, to: &dyn Store) -> Result<(), Failure> {
    for table in Table::ALL {
        let mut progress = progress("copied", table, from).await?;
        let mut cursor = TableCursor::of(table);
        while let Some([source, target]) = cursor.next(from, to).await? {
            if source != target {
                let part = Part {
                    table,
                    after: cursor.from.clone(),
                    up_to: cursor.after.clone(),
                    rows: source,
                };
                if !to.replace(part).await? {
                    return Err(interrupted());
                }
            }
            progress.at(cursor.rows);
        }
    }
    Ok(())
}

/// Compares all rows of both sides, value by value.
async fn compare(from: &dyn Store, to: &dyn Store) -> Result<Vec<Compared>, Failure> {
    let mut compared = Vec::new();
    for table in Table::ALL {
        let mut progress = progress("compared", table, from).await?;
        let mut cursor = TableCursor::of(table);
        let mut sum = Context::new(&SHA256);
        while let Some([source, target]) = cursor.next(from, to).await? {
            if source != target {
                let row = first_difference(table, &source, &target);
                return Err(different(table.name(), &row));
            }
            target.iter().for_each(|row| add(&mut sum, row));
            progress.at(cursor.rows);
        }
        let digits = sum
            .finish()
            .as_ref()
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        compared.push(Compared {
            table,
            rows: cursor.rows,
            sha256: digits,
        });
    }
    // Last, so that it shows if clients or keys were changed meanwhile.
    let as_copied = InstallationRow {
        unfinished_copy: true,
        ..from.installation_row().await?
    };
    if to.installation_row().await? != as_copied {
        return Err(different("installation", "its row"));
    }
    Ok(compared)
}

/// A table, read in parts on both sides. The parts are the source's; of the target they have all that lies between, as far
/// as that isn't more than it can be.
struct TableCursor {
    table: Table,
    /// Behind what the last part begins.
    from: Option<Key>,
    /// The key of its last row; `None` at the end of the table.
    after: Option<Key>,
    rows: u64,
    ended: bool,
}

impl TableCursor {
    fn of(table: Table) -> Self {
        Self {
            table,
            from: None,
            after: None,
            rows: 0,
            ended: false,
        }
    }

    async fn next(
        &mut self,
        from: &dyn Store,
        to: &dyn Store,
    ) -> Result<Option<[Vec<Row>; 2]>, Failure> {
        if self.ended {
            return Ok(None);
        }
        self.from = self.after.take();
        let source = from.rows(self.table, self.from.clone(), PART).await?;
        let target = to.rows(self.table, self.from.clone(), PART).await?;
        self.rows += source.len() as u64;
        self.after = source.last().map(|last| self.table.key_of(last));
        if source.len() < PART {
            (self.ended, self.after) = (true, None);
        }
        Ok(Some([source, target]))
    }
}

/// Small enough to be written in a moment.
const PART: usize = 1_000;

async fn progress(done: &str, table: Table, from: &dyn Store) -> Result<Progress, Failure> {
    let total = from.count(table).await?;
    Ok(Progress::new(format!("{done} {}", table.name()), total))
}

fn first_difference(table: Table, source: &[Row], target: &[Row]) -> String {
    let pairs = source.iter().zip(target);
    let same = pairs
        .take_while(|(source, target)| source == target)
        .count();
    let (source, target) = (source.get(same), target.get(same));
    let key = source.or(target).map(|row| table.key_of(row));
    let columns = table.key().iter().zip(key.into_iter().flatten());
    let columns = columns.map(|(column, value)| format!("{} {}", column.name(), shown(&value)));
    format!("the row of {}", columns.collect::<Vec<_>>().join(", "))
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Integer(number) => number.to_string(),
        Value::Flag(flag) => flag.to_string(),
        Value::Text(text) => text.clone(),
        Value::Bytes(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

/// Adds a row to a checksum: each value by its kind and length, so that no two rows look the same.
fn add(sum: &mut Context, row: &Row) {
    for value in row {
        let (kind, bytes) = match value {
            Value::Null => (0, Vec::new()),
            Value::Integer(number) => (1, number.to_be_bytes().to_vec()),
            Value::Flag(flag) => (2, vec![u8::from(*flag)]),
            Value::Text(text) => (3, text.as_bytes().to_vec()),
            Value::Bytes(bytes) => (4, bytes.clone()),
        };
        sum.update(&[kind]);
        sum.update(&(bytes.len() as u64).to_be_bytes());
        sum.update(&bytes);
    }
}

fn different(table: &str, row: &str) -> Failure {
    Failure(format!(
        "the copy is not the same as the source: in {table}, {row}. It is not finished, and nobody is served from it. \
         Something else writes to one of the two: stop that, and copy again, which puts right what differs"
    ))
}

fn interrupted() -> Failure {
    Failure(
        "the copy was finished by another process. Copy again to see that nothing is left to do"
            .to_owned(),
    )
}

fn finished(config: &Config, connection: &Connection, compared: &[Compared]) -> Vec<String> {
    let rows = compared.iter().map(|compared| {
        let name = compared.table.name().to_owned();
        vec![name, compared.rows.to_string(), compared.sha256.clone()]
    });
    let key = match config.master_key {
        Some(_) => "the same GUESTPASS_MASTER_KEY".to_owned(),
        None => config.master_key_file.display().to_string(),
    };
    let mut lines = vec![
        format!(
            "copied {} to {connection}. Every row was read again on both sides, and each value is the same:",
            config.database
        ),
        String::new(),
    ];
    lines.extend(table(&["TABLE", "ROWS", "SHA-256"], rows));
    lines.extend([
        String::new(),
        "The master key opens the keys there. What is left to do:".to_owned(),
        "1. Set `database` to that URL on every node.".to_owned(),
        format!("2. Give every node the master key: {key}"),
        format!(
            "3. Give the first node the journal: {}",
            config.journal.display()
        ),
        format!(
            "4. Start them: guestpass serve. From then on don't start a server on {} again.",
            config.database
        ),
    ]);
    lines
}
