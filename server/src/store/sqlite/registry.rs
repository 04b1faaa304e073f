//! Clients and their API keys.

use std::collections::HashMap;
use std::time::Duration;

use guestpass_core::client::{
    ApiKey, ApiKeyHash, ApiKeyId, Client, ClientId, ClientNumber, Origin,
};
use guestpass_core::policy::{LateRetry, Policy, PolicyOverrides};
use guestpass_core::time::Timestamp;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, named_params, params};

use super::unavailable;
use crate::store::{Change, ChangeError, ClientSettings};

pub(super) fn revision(connection: &Connection) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("select revision from installation")?
        .query_row([], |row| row.get(0))
}

/// Reads in one transaction, so that the list is of that revision.
pub(super) fn clients(connection: &Connection) -> rusqlite::Result<(i64, Vec<Client>)> {
    let transaction = connection.unchecked_transaction()?;
    let revision = revision(&transaction)?;
    let mut origins = grouped(
        &transaction,
        "select * from client_origins order by origin",
        |row| parsed::<Origin>(row, "origin"),
    )?;
    let mut api_keys = grouped(
        &transaction,
        "select * from api_keys order by created_at, key_id",
        api_key,
    )?;
    let clients = transaction
        .prepare("select * from clients order by client_id")?
        .query_map([], |row| {
            let number = row.get("client_number")?;
            Ok(Client {
                number: ClientNumber(number),
                id: parsed(row, "client_id")?,
                confidential: row.get("confidential")?,
                disabled: row.get("disabled")?,
                overrides: overrides(row)?,
                resume_with_jwt: row.get("resume_with_jwt")?,
                origins: origins.remove(&number).unwrap_or_default(),
                api_keys: api_keys.remove(&number).unwrap_or_default(),
                created_at: Timestamp::from_millis(row.get("created_at")?),
            })
        })?
        .collect::<Result<_, _>>()?;
    Ok((revision, clients))
}

pub(super) fn apply(transaction: &Transaction<'_>, change: &Change) -> Result<(), ChangeError> {
    match change {
        Change::AddClient {
            id,
            settings,
            api_key,
            now,
        } => {
            let number = add_client(transaction, id, *now)?;
            set_client(transaction, number, settings)?;
            if let Some(key) = api_key {
                add_api_key(transaction, number, key)?;
            }
        }
        Change::SetClient { id, settings } => {
            set_client(transaction, number(transaction, id)?, settings)?;
        }
        Change::RemoveClient(id) => remove_client(transaction, number(transaction, id)?)?,
        Change::AddApiKey(id, key) => add_api_key(transaction, number(transaction, id)?, key)?,
        Change::RevokeApiKey(id, key, at) => {
            revoke_api_key(transaction, number(transaction, id)?, key, *at)?;
        }
    }
    transaction.execute("update installation set revision = revision + 1", [])?;
    Ok(())
}

fn add_client(
    transaction: &Transaction<'_>,
    id: &ClientId,
    now: Timestamp,
) -> Result<i64, ChangeError> {
    const NUMBER: &str = "
        update installation set next_client_number = next_client_number + 1
        returning next_client_number - 1";
    const CLIENT: &str = "
        insert into clients (client_number, client_id, confidential, disabled, resume_with_jwt, created_at)
        values (?, ?, false, false, false, ?)
        on conflict (client_id) do nothing";
    let number: i64 = transaction.query_row(NUMBER, [], |row| row.get(0))?;
    match transaction.execute(CLIENT, params![number, id.as_str(), now.as_millis()])? {
        1 => Ok(number),
        _ => Err(ChangeError::ClientExists),
    }
}

fn set_client(
    transaction: &Transaction<'_>,
    number: i64,
    settings: &ClientSettings,
) -> Result<(), ChangeError> {
    const SET: &str = "
        update clients
           set confidential = coalesce(?, confidential), disabled = coalesce(?, disabled),
               resume_with_jwt = coalesce(?, resume_with_jwt)
         where client_number = ?";
    const ADD: &str =
        "insert into client_origins (client_number, origin) values (?, ?) on conflict do nothing";
    const REMOVE: &str = "delete from client_origins where client_number = ? and origin = ?";
    let ClientSettings {
        confidential,
        disabled,
        resume_with_jwt,
        overrides,
        unset,
        sound_over,
        add_origins,
        remove_origins,
    } = settings;
    transaction.execute(
        SET,
        params![confidential, disabled, resume_with_jwt, number],
    )?;
    set_overrides(transaction, number, overrides)?;
    for choice in unset {
        let sql = format!(
            "update clients set {} = null where client_number = ?",
            choice.name()
        );
        transaction.execute(&sql, [number])?;
    }
    for origin in add_origins {
        transaction.execute(ADD, params![number, origin.as_str()])?;
    }
    for origin in remove_origins {
        if transaction.execute(REMOVE, params![number, origin.as_str()])? == 0 {
            return Err(ChangeError::OriginUnknown(origin.clone()));
        }
    }
    check_client(transaction, number, sound_over.as_ref())
}

fn set_overrides(
    transaction: &Transaction<'_>,
    number: i64,
    overrides: &PolicyOverrides,
) -> rusqlite::Result<()> {
    const SQL: &str = "
        update clients
           set access_ttl = coalesce(:access_ttl, access_ttl), code_ttl = coalesce(:code_ttl, code_ttl),
               grace = coalesce(:grace, grace), late_retry = coalesce(:late_retry, late_retry),
               max_unproven = coalesce(:max_unproven, max_unproven),
               refresh_idle = coalesce(:refresh_idle, refresh_idle),
               refresh_max = coalesce(:refresh_max, refresh_max), audience = coalesce(:audience, audience),
               query_params = coalesce(:query_params, query_params)
         where client_number = :number";
    let millis = |duration: Option<Duration>| {
        duration.map(|duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
    };
    let row = named_params! {
        ":access_ttl": millis(overrides.access_ttl),
        ":code_ttl": millis(overrides.code_ttl),
        ":grace": millis(overrides.grace),
        ":late_retry": overrides.late_retry.map(LateRetry::name),
        ":max_unproven": overrides.max_unproven,
        ":refresh_idle": millis(overrides.refresh_idle),
        ":refresh_max": millis(overrides.refresh_max),
        ":audience": overrides.audience.as_ref().map(|audience| audience.as_str()),
        ":query_params": overrides.query_params,
        ":number": number,
    };
    transaction.execute(SQL, row).map(drop)
}

/// Whether the client may be as it is now.
fn check_client(
    transaction: &Transaction<'_>,
    number: i64,
    defaults: Option<&Policy>,
) -> Result<(), ChangeError> {
    const RESUMES: &str = "
        select confidential, exists (select 1 from client_origins where client_number = clients.client_number)
          from clients where client_number = ? and resume_with_jwt";
    let resumes = transaction
        .query_row(RESUMES, [number], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    match resumes {
        Some((false, _)) => return Err(ChangeError::ResumePublic),
        Some((true, true)) => return Err(ChangeError::ResumeWithOrigin),
        Some((true, false)) | None => {}
    }
    if let Some(defaults) = defaults {
        const ROW: &str = "select * from clients where client_number = ?";
        let overrides = transaction.query_row(ROW, [number], overrides)?;
        let sound = defaults.with(&overrides).check();
        sound.map_err(ChangeError::PolicyUnsound)?;
    }
    Ok(())
}

fn remove_client(transaction: &Transaction<'_>, number: i64) -> Result<(), ChangeError> {
    for table in ["api_keys", "client_origins", "clients"] {
        transaction.execute(
            &format!("delete from {table} where client_number = ?"),
            [number],
        )?;
    }
    Ok(())
}

fn add_api_key(
    transaction: &Transaction<'_>,
    number: i64,
    key: &ApiKey,
) -> Result<(), ChangeError> {
    const SQL: &str = "
        insert into api_keys (client_number, key_id, hash, created_at, expires_at)
        select client_number, ?, ?, ?, ? from clients where client_number = ? and confidential";
    let expires_at = key.expires_at.map(Timestamp::as_millis);
    let created_at = key.created_at.as_millis();
    let row = params![
        key.id.0,
        key.hash.as_bytes(),
        created_at,
        expires_at,
        number
    ];
    match transaction.execute(SQL, row)? {
        0 => Err(ChangeError::ClientPublic),
        _ => Ok(()),
    }
}

fn revoke_api_key(
    transaction: &Transaction<'_>,
    number: i64,
    key: &ApiKeyId,
    at: Timestamp,
) -> Result<(), ChangeError> {
    const SQL: &str = "
        update api_keys set revoked_at = coalesce(revoked_at, ?) where client_number = ? and key_id = ?";
    match transaction.execute(SQL, params![at.as_millis(), number, key.0])? {
        0 => Err(ChangeError::ApiKeyUnknown),
        _ => Ok(()),
    }
}

fn number(transaction: &Transaction<'_>, id: &ClientId) -> Result<i64, ChangeError> {
    const SQL: &str = "select client_number from clients where client_id = ?";
    transaction
        .query_row(SQL, [id.as_str()], |row| row.get(0))
        .optional()?
        .ok_or(ChangeError::ClientUnknown)
}

/// Rows by the number of their client.
fn grouped<T>(
    connection: &Connection,
    sql: &str,
    read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<HashMap<i64, Vec<T>>> {
    let mut groups: HashMap<i64, Vec<T>> = HashMap::new();
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        groups
            .entry(row.get("client_number")?)
            .or_default()
            .push(read(row)?);
    }
    Ok(groups)
}

fn api_key(row: &Row<'_>) -> rusqlite::Result<ApiKey> {
    let at = |name| {
        row.get::<_, Option<i64>>(name)
            .map(|at| at.map(Timestamp::from_millis))
    };
    Ok(ApiKey {
        id: ApiKeyId(row.get("key_id")?),
        hash: ApiKeyHash::from_bytes(row.get("hash")?),
        created_at: Timestamp::from_millis(row.get("created_at")?),
        expires_at: at("expires_at")?,
        revoked_at: at("revoked_at")?,
    })
}

fn overrides(row: &Row<'_>) -> rusqlite::Result<PolicyOverrides> {
    let duration = |name| {
        row.get::<_, Option<u64>>(name)
            .map(|millis| millis.map(Duration::from_millis))
    };
    Ok(PolicyOverrides {
        access_ttl: duration("access_ttl")?,
        code_ttl: duration("code_ttl")?,
        grace: duration("grace")?,
        late_retry: parsed_or_null(row, "late_retry")?,
        max_unproven: row.get("max_unproven")?,
        refresh_idle: duration("refresh_idle")?,
        refresh_max: duration("refresh_max")?,
        audience: parsed_or_null(row, "audience")?,
        query_params: row.get("query_params")?,
    })
}

fn parsed_or_null<T: std::str::FromStr>(
    row: &Row<'_>,
    column: &str,
) -> rusqlite::Result<Option<T>> {
    match row.get_ref(column)?.data_type() {
        Type::Null => Ok(None),
        _ => parsed(row, column).map(Some),
    }
}

fn parsed<T: std::str::FromStr>(row: &Row<'_>, column: &str) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    text.parse()
        .map_err(|_| rusqlite::Error::InvalidColumnType(0, column.to_owned(), Type::Text))
}

impl From<rusqlite::Error> for ChangeError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Unavailable(unavailable(error))
    }
}
