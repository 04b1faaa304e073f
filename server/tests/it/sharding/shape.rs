//! An allowlist of the shapes of statements that a request may send. Before a new shape is added, look at how sharded
//! engines run it.

/// The key of the one row, or of the rows of one guest, that a statement touches.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Key {
    pub(super) column: &'static str,
    /// The number of the parameter that the column is compared with.
    pub(super) parameter: usize,
}

/// The sharded tables, each with its shard key.
const KEYS: [(&str, &str); 5] = [
    ("profiles", "profile_id"),
    ("grants", "profile_id"),
    ("events", "profile_id"),
    ("revoked_access_tokens", "token_id"),
    ("tombstones", "hash"),
];

/// Words that no statement may contain, with one space between two.
const REFUSED: [&str; 22] = [
    "references",
    "foreign",
    "serial",
    "bigserial",
    "sequence",
    "nextval",
    "identity",
    "trigger",
    "advisory",
    "pg_advisory_lock",
    "pg_try_advisory_lock",
    "pg_advisory_xact_lock",
    "listen",
    "notify",
    "pg_notify",
    "savepoint",
    "temporary",
    "cursor",
    "for update",
    "for share",
    "select *",
    "returning *",
];

/// Finds a word, or two, that a sharded engine doesn't support or runs slowly, or that breaks when columns are added.
pub(super) fn refused_word(sql: &str) -> Option<&'static str> {
    let words = format!(" {} ", words(sql).join(" "));
    REFUSED
        .into_iter()
        .find(|refused| words.contains(&format!(" {refused} ")))
}

/// Returns the key of a statement that has one of these shapes, or that combines two of them by `with`, with the same
/// key. The error says why a statement has none of them.
///
/// ```sql
/// select … from TABLE where KEY = $1 …
/// update TABLE set … where KEY = $1 …
/// delete from TABLE where KEY = $1 …
/// insert into TABLE (KEY, …) values ($1, …) …
/// insert into TABLE (KEY, …) select KEY, … from TABLE where KEY = $1 …
/// ```
pub(super) fn key(sql: &str) -> Result<Key, String> {
    let words = words(sql);
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let [first, others @ ..] = &parts(&words)[..] else {
        unreachable!("a statement has a part");
    };
    let key = part_key(first)?;
    for other in others {
        if part_key(other)? != key {
            return Err("its parts have different keys".to_owned());
        }
    }
    Ok(key)
}

/// Returns whether a statement touches a sharded table.
pub(super) fn is_of_guests(sql: &str) -> bool {
    let words = words(sql);
    words
        .iter()
        .any(|word| KEYS.iter().any(|(table, _)| word == table))
}

/// A bound on the number of rows that a statement reads.
pub(super) enum Bound {
    Limit(i64),
    /// The value of the parameter of that number.
    LimitOf(usize),
    /// The length of the array in the parameter of that number.
    LengthOf(usize),
}

pub(super) fn bound(sql: &str) -> Option<Bound> {
    let words = words(sql);
    let behind = |word: &str, distance| {
        let at = words.iter().position(|other| other == word)?;
        words.get(at + distance)
    };
    if let Some(array) = behind("unnest", 2) {
        return parameter(array).map(Bound::LengthOf);
    }
    let limit = behind("limit", 1)?;
    let of = parameter(limit).map(Bound::LimitOf);
    of.or_else(|| limit.parse().ok().map(Bound::Limit))
}

/// Extracts the string literals of Rust code, without comments.
pub(super) fn literals(code: &str) -> Vec<String> {
    let code: Vec<_> = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect();
    code.join("\n")
        .replace("\\\"", "")
        .split('"')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

pub(super) fn without_comments(sql: &str) -> String {
    let lines = sql.lines().map(|line| line.split("--").next().unwrap());
    lines.collect::<Vec<_>>().join("\n")
}

/// Splits a statement into words in lower case; each punctuation mark is a word.
fn words(sql: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for char in sql.to_lowercase().chars() {
        if char.is_alphanumeric() || "_$.".contains(char) {
            words.last_mut().unwrap().push(char);
        } else {
            words.extend([char.to_string(), String::new()]);
        }
    }
    words.retain(|word| !word.trim().is_empty());
    words
}

/// Splits a statement into the one in `with`, if there is one, and the main one.
fn parts<'a>(words: &'a [&'a str]) -> Vec<&'a [&'a str]> {
    let ["with", _, "as", "(", rest @ ..] = words else {
        return vec![words];
    };
    let mut depth = 1;
    let end = rest.iter().position(|word| {
        depth += nesting(word);
        depth == 0
    });
    let (part, behind) = rest.split_at(end.unwrap());
    vec![part, &behind[1..]]
}

fn nesting(word: &str) -> i32 {
    match word {
        "(" => 1,
        ")" => -1,
        _ => 0,
    }
}

fn part_key(words: &[&str]) -> Result<Key, String> {
    // The clause `on conflict` concerns the same row.
    let end = words.iter().position(|word| *word == "conflict");
    let words = &words[..end.unwrap_or(words.len())];
    let tables = words.iter().filter(|word| is_table(word)).count();
    match words {
        ["insert", "into", table, "(", column, ..] => {
            let key = column_of(table)?;
            if *column != key {
                return Err(format!("{key} is not its first column"));
            }
            let columns = words.iter().position(|word| *word == ")").unwrap();
            match &words[columns + 1..] {
                ["values", "(", value, ..] if tables == 1 => of_parameter(key, value),
                ["select", first, ..] if tables == 2 && *first == key => condition(words, key),
                _ => Err("it inserts something else than one row".to_owned()),
            }
        }
        ["select", ..] => {
            let from = words.iter().position(|word| *word == "from");
            let table = from.and_then(|from| words.get(from + 1));
            one_table(tables)?;
            condition(words, column_of(table.unwrap_or(&""))?)
        }
        ["update", table, "set", ..] | ["delete", "from", table, "where", ..] => {
            one_table(tables)?;
            condition(words, column_of(table)?)
        }
        _ => Err("no request sends such a statement".to_owned()),
    }
}

fn is_table(word: &str) -> bool {
    ["from", "into", "update", "join", "using"].contains(&word)
}

fn one_table(tables: usize) -> Result<(), String> {
    if tables == 1 {
        Ok(())
    } else {
        Err("it looks at more than one table".to_owned())
    }
}

fn column_of(table: &str) -> Result<&'static str, String> {
    KEYS.iter()
        .find(|(known, _)| *known == table)
        .map(|(_, column)| *column)
        .ok_or_else(|| format!("{table} is no table of guests"))
}

/// Returns the key that the condition begins with, provided that no `or` weakens it.
fn condition(words: &[&str], column: &'static str) -> Result<Key, String> {
    let condition = words.iter().position(|word| *word == "where");
    let condition = &words[condition.ok_or("it has no condition")? + 1..];
    let mut depth = 0;
    let undone = condition.iter().any(|word| {
        depth += nesting(word);
        depth == 0 && *word == "or"
    });
    match condition {
        [first, "=", value, ..] if *first == column && !undone => of_parameter(column, value),
        _ => Err(format!("its condition doesn't begin with {column}")),
    }
}

fn of_parameter(column: &'static str, value: &str) -> Result<Key, String> {
    let parameter = parameter(value).ok_or("its key is no parameter")?;
    Ok(Key { column, parameter })
}

/// Parses the number of a placeholder, such as `$1`.
fn parameter(word: &str) -> Option<usize> {
    word.strip_prefix('$')?.parse().ok()
}
