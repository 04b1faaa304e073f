//! Clients and keys as rows of small tables: read, decide in pure code, write unless somebody else has written meanwhile.
//!
//! The rules are in [`Change::apply`] and [`keys::apply`]; here is only what a row looks like, and the loop.

use std::collections::HashMap;
use std::time::Duration;

use guestpass_core::client::{ApiKey, ApiKeyHash, ApiKeyId, Change, Client, ClientNumber};
use guestpass_core::time::Timestamp;

use super::transfer::{InstallationRow, Row, Table, Value};
use super::{ChangeFailed, Installation, Registry, Unavailable, WrappedKey};
use crate::keys::{self, KeyChange};

pub(super) async fn clients<R: Registry + ?Sized>(
    store: &R,
) -> Result<(i64, Vec<Client>), Unavailable> {
    let (row, clients) = read_clients(store).await?;
    Ok((row.revision, clients))
}

pub(super) async fn change<R: Registry + ?Sized>(
    store: &R,
    change: &Change,
) -> Result<(), ChangeFailed> {
    for _ in 0..ATTEMPTS {
        let (row, clients) = read_clients(store).await?;
        let next = ClientNumber(row.next_client_number);
        let changed = change.apply(&clients, next)?;
        let is_taken = changed.iter().any(|client| client.number == next);
        let row = InstallationRow {
            next_client_number: next.0 + i64::from(is_taken),
            ..row
        };
        if store.replace_tables(row, client_tables(&changed)).await? {
            return Ok(());
        }
    }
    Err(overtaken().into())
}

pub(super) async fn installation<R: Registry + ?Sized>(
    store: &R,
) -> Result<Installation, Unavailable> {
    let (row, keys) = read_keys(store).await?;
    Ok(Installation {
        revision: row.revision,
        id: row.id,
        master_key_check: row.master_key_check,
        keys,
    })
}

pub(super) async fn insert_first_keys<R: Registry + ?Sized>(
    store: &R,
    master_key_check: [u8; 32],
    first: &[WrappedKey],
) -> Result<bool, Unavailable> {
    for _ in 0..ATTEMPTS {
        let (row, keys) = read_keys(store).await?;
        if !keys.is_empty() || row.master_key_check.is_some() || row.unfinished_copy {
            return Ok(false);
        }
        let row = InstallationRow {
            master_key_check: Some(master_key_check),
            ..row
        };
        if store.replace_tables(row, key_tables(first)).await? {
            return Ok(true);
        }
    }
    Err(overtaken())
}

pub(super) async fn change_keys<R: Registry + ?Sized>(
    store: &R,
    changes: &[KeyChange],
) -> Result<bool, Unavailable> {
    for _ in 0..ATTEMPTS {
        let (row, keys) = read_keys(store).await?;
        let Some(changed) = keys::apply(&keys, changes) else {
            return Ok(false);
        };
        if store.replace_tables(row, key_tables(&changed)).await? {
            return Ok(true);
        }
    }
    Err(overtaken())
}

/// More than there are operators and nodes that change something at the same moment.
const ATTEMPTS: usize = 16;

fn overtaken() -> Unavailable {
    Unavailable("others change clients or keys at the same moment, or a copy is unfinished".into())
}

async fn read_clients<R: Registry + ?Sized>(
    store: &R,
) -> Result<(InstallationRow, Vec<Client>), Unavailable> {
    const TABLES: &[Table] = &[Table::Clients, Table::ClientChoices, Table::ApiKeys];
    let (row, tables) = store.read_tables(TABLES).await?;
    let [clients, choices, api_keys] = exactly(tables)?;
    let mut by_number = HashMap::new();
    for row in clients {
        let client = client(row)?;
        by_number.insert(client.number.0, client);
    }
    // A row that is left of a client that is gone says nothing.
    for row in choices {
        let [
            Value::Integer(number),
            Value::Text(name),
            Value::Text(value),
        ] = exactly(row)?
        else {
            return Err(malformed(Table::ClientChoices));
        };
        if let Some(client) = by_number.get_mut(&number) {
            client.restore_choice(name, value);
        }
    }
    for row in api_keys {
        let (number, key) = api_key(row)?;
        if let Some(client) = by_number.get_mut(&number) {
            client.api_keys.push(key);
        }
    }
    let mut clients: Vec<_> = by_number.into_values().collect();
    clients.sort_by(|a, b| a.id.cmp(&b.id));
    for client in &mut clients {
        client
            .api_keys
            .sort_by(|a, b| (a.created_at, &a.id.0).cmp(&(b.created_at, &b.id.0)));
    }
    Ok((row, clients))
}

fn client_tables(clients: &[Client]) -> Vec<(Table, Vec<Row>)> {
    let (mut rows, mut choices, mut api_keys) = (Vec::new(), Vec::new(), Vec::new());
    for client in clients {
        let number = || Value::Integer(client.number.0);
        rows.push(vec![
            number(),
            Value::Text(client.id.to_string()),
            Value::Flag(client.confidential),
            Value::Flag(client.disabled),
            time(client.created_at),
        ]);
        let chosen = client.choices().into_iter();
        choices.extend(
            chosen.map(|(name, text)| vec![number(), Value::Text(name), Value::Text(text)]),
        );
        api_keys.extend(client.api_keys.iter().map(|key| {
            vec![
                number(),
                Value::Text(key.id.0.clone()),
                Value::Bytes(key.hash.as_bytes().to_vec()),
                time(key.created_at),
                time_or_null(key.expires_at),
                time_or_null(key.revoked_at),
            ]
        }));
    }
    vec![
        (Table::Clients, rows),
        (Table::ClientChoices, choices),
        (Table::ApiKeys, api_keys),
    ]
}

fn client(row: Row) -> Result<Client, Unavailable> {
    let [
        Value::Integer(number),
        Value::Text(id),
        Value::Flag(confidential),
        Value::Flag(disabled),
        Value::Integer(created_at),
    ] = exactly(row)?
    else {
        return Err(malformed(Table::Clients));
    };
    let id = id.parse().map_err(|_| malformed(Table::Clients))?;
    let created_at = Timestamp::from_millis(created_at);
    Ok(Client {
        confidential,
        disabled,
        ..Client::new(ClientNumber(number), id, created_at)
    })
}

fn api_key(row: Row) -> Result<(i64, ApiKey), Unavailable> {
    let [
        Value::Integer(number),
        Value::Text(id),
        Value::Bytes(hash),
        Value::Integer(created_at),
        expires_at,
        revoked_at,
    ] = exactly(row)?
    else {
        return Err(malformed(Table::ApiKeys));
    };
    let hash = hash.try_into().map_err(|_| malformed(Table::ApiKeys))?;
    let key = ApiKey {
        id: ApiKeyId(id),
        hash: ApiKeyHash::from_bytes(hash),
        created_at: Timestamp::from_millis(created_at),
        expires_at: as_time(&expires_at),
        revoked_at: as_time(&revoked_at),
    };
    Ok((number, key))
}

async fn read_keys<R: Registry + ?Sized>(
    store: &R,
) -> Result<(InstallationRow, Vec<WrappedKey>), Unavailable> {
    let (row, tables) = store.read_tables(&[Table::Keys]).await?;
    let [keys] = exactly(tables)?;
    let mut keys = keys.into_iter().map(key).collect::<Result<Vec<_>, _>>()?;
    keys.sort_by(|a, b| (a.created_at, &a.kid).cmp(&(b.created_at, &b.kid)));
    Ok((row, keys))
}

fn key_tables(keys: &[WrappedKey]) -> Vec<(Table, Vec<Row>)> {
    let rows = keys.iter().map(|key| {
        vec![
            Value::Text(key.kid.clone()),
            Value::Text(key.key_use.clone()),
            Value::Text(key.algorithm.clone()),
            time(key.created_at),
            time(key.usable_at),
            time_or_null(key.current_at),
            time_or_null(key.retiring_at),
            Value::Integer(i64::try_from(key.lifetime.as_millis()).unwrap_or(i64::MAX)),
            Value::Bytes(key.sealed.clone()),
        ]
    });
    vec![(Table::Keys, rows.collect())]
}

fn key(row: Row) -> Result<WrappedKey, Unavailable> {
    let [
        Value::Text(kid),
        Value::Text(key_use),
        Value::Text(algorithm),
        Value::Integer(created_at),
        Value::Integer(usable_at),
        current_at,
        retiring_at,
        Value::Integer(lifetime),
        Value::Bytes(sealed),
    ] = exactly(row)?
    else {
        return Err(malformed(Table::Keys));
    };
    let lifetime = lifetime.try_into().map_err(|_| malformed(Table::Keys))?;
    Ok(WrappedKey {
        kid,
        key_use,
        algorithm,
        created_at: Timestamp::from_millis(created_at),
        usable_at: Timestamp::from_millis(usable_at),
        current_at: as_time(&current_at),
        retiring_at: as_time(&retiring_at),
        lifetime: Duration::from_millis(lifetime),
        sealed,
    })
}

fn time(at: Timestamp) -> Value {
    Value::Integer(at.as_millis())
}

fn time_or_null(at: Option<Timestamp>) -> Value {
    at.map_or(Value::Null, time)
}

fn as_time(value: &Value) -> Option<Timestamp> {
    match value {
        Value::Integer(millis) => Some(Timestamp::from_millis(*millis)),
        Value::Null | Value::Flag(_) | Value::Text(_) | Value::Bytes(_) => None,
    }
}

/// Turns the answer to a read into an array: a table for each that was asked for, or a value for each column.
fn exactly<T, const N: usize>(all: Vec<T>) -> Result<[T; N], Unavailable> {
    let problem =
        |_| Unavailable("the store has answered with another number of tables or columns".into());
    all.try_into().map_err(problem)
}

fn malformed(table: Table) -> Unavailable {
    let name = table.name();
    Unavailable(format!("the table {name} holds what was never written"))
}
