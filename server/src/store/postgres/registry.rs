//! Clients and their API keys.

use std::collections::HashMap;
use std::time::Duration;

use deadpool_postgres::Transaction;
use guestpass_core::client::{
    ApiKey, ApiKeyHash, ApiKeyId, Client, ClientId, ClientNumber, Origin,
};
use guestpass_core::policy::{LateRetry, Policy, PolicyOverrides};
use guestpass_core::time::Timestamp;
use tokio_postgres::Row;

use super::pool::{Interrupted, Parameter, Pool, in_time};
use super::row::{bytes, duration, malformed, time, value};
use crate::store::{Change, ChangeError, ClientSettings, Unavailable};

pub(super) async fn clients(pool: &Pool) -> Result<(i64, Vec<Client>), Unavailable> {
    const REVISION: &str = "select revision from installation";
    const ORIGINS: &str = "select client_number, origin from client_origins order by origin";
    const API_KEYS: &str = "
        select client_number, key_id, hash, created_at, expires_at, revoked_at from api_keys
         order by created_at, key_id";
    const CLIENTS: &str = "
        select client_number, client_id, confidential, disabled, resume_with_jwt, created_at, access_ttl, code_ttl,
               grace, late_retry, max_unproven, refresh_idle, refresh_max, audience, query_params
          from clients order by client_id";
    let mut session = pool.session().await?;
    let rows = async {
        let transaction = session.look().await?;
        let revision = transaction.query_one(REVISION, &[]).await?.try_get(0)?;
        let origins = transaction.query(ORIGINS, &[]).await?;
        let api_keys = transaction.query(API_KEYS, &[]).await?;
        Ok((
            revision,
            origins,
            api_keys,
            transaction.query(CLIENTS, &[]).await?,
        ))
    };
    let rows = in_time(rows).await;
    let (revision, origins, api_keys, clients) = session.end::<_, Unavailable>(rows)?;
    let mut origins = grouped(&origins, |row| parsed::<Origin>(row, "origin"))?;
    let mut api_keys = grouped(&api_keys, api_key)?;
    let clients = clients.iter().map(|row| {
        let number = value(row, "client_number")?;
        Ok(Client {
            number: ClientNumber(number),
            id: parsed(row, "client_id")?,
            confidential: value(row, "confidential")?,
            disabled: value(row, "disabled")?,
            overrides: overrides(row)?,
            resume_with_jwt: value(row, "resume_with_jwt")?,
            origins: origins.remove(&number).unwrap_or_default(),
            api_keys: api_keys.remove(&number).unwrap_or_default(),
            created_at: Timestamp::from_millis(value(row, "created_at")?),
        })
    });
    Ok((revision, clients.collect::<Result<_, Unavailable>>()?))
}

pub(super) async fn change(pool: &Pool, change: &Change) -> Result<(), ChangeError> {
    // First, so that of two changes at once one waits for the other.
    const REVISION: &str = "update installation set revision = revision + 1";
    let mut session = pool.session().await?;
    let changed = async {
        let transaction = session.change().await?;
        transaction.execute(REVISION, &[]).await?;
        apply(&transaction, change).await?;
        Ok(transaction.commit().await?)
    };
    let changed = in_time(changed).await;
    session.end(changed)
}

type Changed<T = ()> = Result<T, Interrupted<ChangeError>>;

async fn apply(transaction: &Transaction<'_>, change: &Change) -> Changed {
    match change {
        Change::AddClient {
            id,
            settings,
            api_key,
            now,
        } => {
            let number = add_client(transaction, id, *now).await?;
            set_client(transaction, number, settings).await?;
            match api_key {
                Some(key) => add_api_key(transaction, number, key).await,
                None => Ok(()),
            }
        }
        Change::SetClient { id, settings } => {
            let number = number(transaction, id).await?;
            set_client(transaction, number, settings).await
        }
        Change::RemoveClient(id) => {
            let number = number(transaction, id).await?;
            remove_client(transaction, number).await
        }
        Change::AddApiKey(id, key) => {
            let number = number(transaction, id).await?;
            add_api_key(transaction, number, key).await
        }
        Change::RevokeApiKey(id, key, at) => {
            let number = number(transaction, id).await?;
            revoke_api_key(transaction, number, key, *at).await
        }
    }
}

async fn add_client(transaction: &Transaction<'_>, id: &ClientId, now: Timestamp) -> Changed<i64> {
    const NUMBER: &str = "
        update installation set next_client_number = next_client_number + 1
        returning next_client_number - 1";
    const CLIENT: &str = "
        insert into clients (client_number, client_id, confidential, disabled, resume_with_jwt, created_at)
        values ($1, $2, false, false, false, $3)
        on conflict (client_id) do nothing";
    let number: i64 = transaction.query_one(NUMBER, &[]).await?.try_get(0)?;
    let row = transaction
        .execute(CLIENT, &[&number, &id.as_str(), &now.as_millis()])
        .await?;
    match row {
        1 => Ok(number),
        _ => Err(Interrupted::Found(ChangeError::ClientExists)),
    }
}

async fn set_client(
    transaction: &Transaction<'_>,
    number: i64,
    settings: &ClientSettings,
) -> Changed {
    const SET: &str = "
        update clients
           set confidential = coalesce($1, confidential), disabled = coalesce($2, disabled),
               resume_with_jwt = coalesce($3, resume_with_jwt)
         where client_number = $4";
    const ADD: &str =
        "insert into client_origins (client_number, origin) values ($1, $2) on conflict do nothing";
    const REMOVE: &str = "delete from client_origins where client_number = $1 and origin = $2";
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
    let row: [Parameter<'_>; 4] = [confidential, disabled, resume_with_jwt, &number];
    transaction.execute(SET, &row).await?;
    set_overrides(transaction, number, overrides).await?;
    for choice in unset {
        let sql = format!(
            "update clients set {} = null where client_number = $1",
            choice.name()
        );
        transaction.execute(&sql, &[&number]).await?;
    }
    for origin in add_origins {
        transaction
            .execute(ADD, &[&number, &origin.as_str()])
            .await?;
    }
    for origin in remove_origins {
        let removed = transaction
            .execute(REMOVE, &[&number, &origin.as_str()])
            .await?;
        if removed == 0 {
            let unknown = ChangeError::OriginUnknown(origin.clone());
            return Err(Interrupted::Found(unknown));
        }
    }
    check_client(transaction, number, sound_over.as_ref()).await
}

async fn set_overrides(
    transaction: &Transaction<'_>,
    number: i64,
    overrides: &PolicyOverrides,
) -> Changed {
    const SQL: &str = "
        update clients
           set access_ttl = coalesce($1, access_ttl), code_ttl = coalesce($2, code_ttl),
               grace = coalesce($3, grace), late_retry = coalesce($4, late_retry),
               max_unproven = coalesce($5, max_unproven), refresh_idle = coalesce($6, refresh_idle),
               refresh_max = coalesce($7, refresh_max), audience = coalesce($8, audience),
               query_params = coalesce($9, query_params)
         where client_number = $10";
    let millis = |duration: Option<Duration>| {
        duration.map(|duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
    };
    let audience = overrides.audience.as_ref().map(|a| a.as_str());
    transaction
        .execute(
            SQL,
            &[
                &millis(overrides.access_ttl),
                &millis(overrides.code_ttl),
                &millis(overrides.grace),
                &overrides.late_retry.map(LateRetry::name),
                &overrides
                    .max_unproven
                    .map(|most| i64::try_from(most).unwrap_or(i64::MAX)),
                &millis(overrides.refresh_idle),
                &millis(overrides.refresh_max),
                &audience,
                &overrides.query_params,
                &number,
            ],
        )
        .await?;
    Ok(())
}

/// Whether the client may be as it is now.
async fn check_client(
    transaction: &Transaction<'_>,
    number: i64,
    defaults: Option<&Policy>,
) -> Changed {
    const RESUMES: &str = "
        select confidential, exists (select 1 from client_origins where client_number = clients.client_number)
          from clients where client_number = $1 and resume_with_jwt";
    let resumes = transaction.query_opt(RESUMES, &[&number]).await?;
    if let Some(row) = resumes {
        match (row.try_get(0)?, row.try_get(1)?) {
            (false, _) => return Err(Interrupted::Found(ChangeError::ResumePublic)),
            (true, true) => return Err(Interrupted::Found(ChangeError::ResumeWithOrigin)),
            (true, false) => {}
        }
    }
    if let Some(defaults) = defaults {
        const ROW: &str = "
            select access_ttl, code_ttl, grace, late_retry, max_unproven, refresh_idle, refresh_max, audience,
                   query_params
              from clients where client_number = $1";
        let row = transaction.query_one(ROW, &[&number]).await?;
        let overrides = overrides(&row).map_err(|error| Interrupted::Found(error.into()))?;
        let sound = defaults.with(&overrides).check();
        sound.map_err(|problem| Interrupted::Found(ChangeError::PolicyUnsound(problem)))?;
    }
    Ok(())
}

async fn remove_client(transaction: &Transaction<'_>, number: i64) -> Changed {
    for table in ["api_keys", "client_origins", "clients"] {
        let sql = format!("delete from {table} where client_number = $1");
        transaction.execute(&sql, &[&number]).await?;
    }
    Ok(())
}

async fn add_api_key(transaction: &Transaction<'_>, number: i64, key: &ApiKey) -> Changed {
    const SQL: &str = "
        insert into api_keys (client_number, key_id, hash, created_at, expires_at)
        select client_number, $1, $2, $3, $4 from clients where client_number = $5 and confidential";
    let expires_at = key.expires_at.map(Timestamp::as_millis);
    let (hash, created_at) = (&key.hash.as_bytes()[..], key.created_at.as_millis());
    let row: [Parameter<'_>; 5] = [&key.id.0, &hash, &created_at, &expires_at, &number];
    match transaction.execute(SQL, &row).await? {
        0 => Err(Interrupted::Found(ChangeError::ClientPublic)),
        _ => Ok(()),
    }
}

async fn revoke_api_key(
    transaction: &Transaction<'_>,
    number: i64,
    key: &ApiKeyId,
    at: Timestamp,
) -> Changed {
    const SQL: &str = "
        update api_keys set revoked_at = coalesce(revoked_at, $1) where client_number = $2 and key_id = $3";
    let row: [Parameter<'_>; 3] = [&at.as_millis(), &number, &key.0];
    match transaction.execute(SQL, &row).await? {
        0 => Err(Interrupted::Found(ChangeError::ApiKeyUnknown)),
        _ => Ok(()),
    }
}

async fn number(transaction: &Transaction<'_>, id: &ClientId) -> Changed<i64> {
    const SQL: &str = "select client_number from clients where client_id = $1";
    match transaction.query_opt(SQL, &[&id.as_str()]).await? {
        Some(row) => Ok(row.try_get(0)?),
        None => Err(Interrupted::Found(ChangeError::ClientUnknown)),
    }
}

/// Rows by the number of their client.
fn grouped<T>(
    rows: &[Row],
    read: impl Fn(&Row) -> Result<T, Unavailable>,
) -> Result<HashMap<i64, Vec<T>>, Unavailable> {
    let mut groups: HashMap<i64, Vec<T>> = HashMap::new();
    for row in rows {
        let number = value(row, "client_number")?;
        groups.entry(number).or_default().push(read(row)?);
    }
    Ok(groups)
}

fn api_key(row: &Row) -> Result<ApiKey, Unavailable> {
    Ok(ApiKey {
        id: ApiKeyId(value(row, "key_id")?),
        hash: ApiKeyHash::from_bytes(bytes(row, "hash")?),
        created_at: Timestamp::from_millis(value(row, "created_at")?),
        expires_at: time(row, "expires_at")?,
        revoked_at: time(row, "revoked_at")?,
    })
}

fn overrides(row: &Row) -> Result<PolicyOverrides, Unavailable> {
    let max_unproven = value::<Option<i64>>(row, "max_unproven")?.map(TryInto::try_into);
    Ok(PolicyOverrides {
        access_ttl: duration(row, "access_ttl")?,
        code_ttl: duration(row, "code_ttl")?,
        grace: duration(row, "grace")?,
        late_retry: parsed_or_null(row, "late_retry")?,
        max_unproven: max_unproven
            .transpose()
            .map_err(|_| malformed("max_unproven"))?,
        refresh_idle: duration(row, "refresh_idle")?,
        refresh_max: duration(row, "refresh_max")?,
        audience: parsed_or_null(row, "audience")?,
        query_params: value(row, "query_params")?,
    })
}

fn parsed_or_null<T: std::str::FromStr>(row: &Row, column: &str) -> Result<Option<T>, Unavailable> {
    let text = value::<Option<&str>>(row, column)?.map(str::parse);
    text.transpose().map_err(|_| malformed(column))
}

fn parsed<T: std::str::FromStr>(row: &Row, column: &str) -> Result<T, Unavailable> {
    parsed_or_null(row, column)?.ok_or_else(|| malformed(column))
}
