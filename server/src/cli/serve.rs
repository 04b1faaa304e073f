//! `guestpass serve`: everything that runs while guests are served.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::{Failure, Output, make_directories, open_or_make_store};
use crate::admin;
use crate::app::App;
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, Issuer};
use crate::http;
use crate::keys::{Keys, KeysError, MasterKey};
use crate::listen;
use crate::metrics::Metrics;
use crate::random::{Random, SecureGenerator};
use crate::registry::{Clients, FOLLOW_EVERY};
use crate::store::sqlite::SqliteStore;
use crate::telemetry;
use crate::upkeep::Cleaner;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Address to listen on [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// The `iss` of every token; needed unless the address is loopback
    #[arg(long, value_name = "URL")]
    issuer: Option<Issuer>,
}

impl Args {
    pub(super) fn add_flags(&self, flags: &mut Vec<(&'static str, String)>) {
        flags.extend(self.listen.map(|listen| ("listen", listen.to_string())));
        flags.extend(
            self.issuer
                .iter()
                .map(|issuer| ("issuer", issuer.as_str().to_owned())),
        );
    }
}

pub(super) async fn run(config: &Config, output: Output) -> Result<(), Failure> {
    telemetry::start(config.log_level, config.log_format);
    let stop = stop_signal()?;
    let server = Server::start(config).await?;
    let address = server.address;
    output.print(
        &json!({"listening": format!("http://{address}"), "issuer": server.issuer.as_str()}),
        || format!("listening on http://{address}"),
    );
    server.run(stop).await;
    Ok(())
}

/// A server that listens and is ready to run.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) issuer: Issuer,
    app: Arc<App>,
    store: Arc<SqliteStore>,
    listener: TcpListener,
    admin_listener: Option<TcpListener>,
    lock: File,
}

impl Server {
    /// Takes the data directory, opens the store, loads or makes the keys, and listens.
    pub(super) async fn start(config: &Config) -> Result<Self, Failure> {
        config.issuer_on(config.listen)?;
        make_directories(config)?;
        let mut lock = lock(&config.database)?;
        let (store, is_new) = open_or_make_store(config)?;
        if is_new {
            tracing::warn!(
                database = %config.database.display(),
                "there was no database, so this is a new installation without guests"
            );
        }
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let random: Arc<dyn Random> = Arc::new(SecureGenerator::new());
        let keys = load_keys(config, &store, &*random, &*clock).await?;
        let listener = bind(config.listen, "--listen").await?;
        let admin_listener = match config.admin_listen {
            Some(address) => Some(bind(address, "admin_listen").await?),
            None => None,
        };
        let address = listener.local_addr()?;
        let issuer = config.issuer_on(address)?;
        write!(lock, "process {} on http://{address}", std::process::id())?;
        let app = Arc::new(App {
            grants: store.clone(),
            clients: Clients::load(store.clone()).await?,
            keys: Arc::new(keys),
            policy: config.policy.clone(),
            issuer: issuer.clone(),
            audience: config.audience.clone(),
            base_paths: config.base_paths.clone(),
            metrics: Metrics::new(store.batches()),
            clock,
            random,
        });
        Ok(Self {
            address,
            issuer,
            app,
            store,
            listener,
            admin_listener,
            lock,
        })
    }

    /// Serves until `stop` is done and what is under way has been answered.
    pub(super) async fn run(self, stop: impl Future<Output = ()>) {
        let following = tokio::spawn(follow(Arc::clone(&self.app)));
        let cleaner = Cleaner::new(
            self.store.clone(),
            self.store.clone(),
            Arc::clone(&self.app.clock),
        );
        let cleaning = tokio::spawn(cleaner.run());
        let administering = self.admin_listener.map(|listener| {
            let router = admin::router(Arc::clone(&self.app));
            tokio::spawn(listen::serve(listener, router, std::future::pending()))
        });
        tracing::info!(address = %self.address, issuer = self.issuer.as_str(), "serving");
        listen::serve(self.listener, http::router(self.app), stop).await;
        for task in [Some(following), Some(cleaning), administering]
            .into_iter()
            .flatten()
        {
            task.abort();
            let _ = task.await;
        }
        tracing::info!("stopped");
        drop(self.store);
        drop(self.lock);
    }
}

async fn bind(address: SocketAddr, setting: &str) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        Failure(format!(
            "can't listen on {address}: {error}. Choose another address with {setting}"
        ))
    })
}

/// Done when the process is asked to end.
pub(super) fn stop_signal() -> Result<impl Future<Output = ()>, Failure> {
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Sees within a second what operators change.
async fn follow(app: Arc<App>) {
    loop {
        tokio::time::sleep(FOLLOW_EVERY).await;
        if let Err(error) = app.clients.refresh().await {
            tracing::warn!(error = %error, "the clients can't be read; what is known of them stays");
        }
    }
}

/// One server per database. The lock goes with the process, however it ends; the file beside the database stays, and
/// says who holds it.
fn lock(database: &Path) -> Result<File, Failure> {
    let path = database.with_extension("lock");
    let problem = |error: std::io::Error| Failure(format!("{}: {error}", path.display()));
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600);
    let mut file = options.open(&path).map_err(problem)?;
    match file.try_lock() {
        Ok(()) => {
            // The last holder's name.
            file.set_len(0).map_err(problem)?;
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            let mut first = String::new();
            let _ = file.read_to_string(&mut first);
            let first = if first.is_empty() {
                "another process".to_owned()
            } else {
                first
            };
            Err(Failure(format!(
                "{} is served already, by {first}. Stop that one first, or name another database or data directory",
                database.display()
            )))
        }
        Err(TryLockError::Error(error)) => Err(problem(error)),
    }
}

async fn load_keys(
    config: &Config,
    store: &SqliteStore,
    random: &dyn Random,
    clock: &dyn Clock,
) -> Result<Keys, Failure> {
    let file = &config.master_key_file;
    let (place, master_key) = match &config.master_key {
        Some(key) => ("GUESTPASS_MASTER_KEY".to_owned(), Some(key.clone())),
        None => (file.display().to_string(), read_master_key(file)?),
    };
    let new_master_key = || {
        let key = MasterKey::generate(random);
        keep(file, &key).map_err(|error| format!("{}: {error}", file.display()))?;
        Ok(key)
    };
    let loaded = Keys::load(store, master_key, new_master_key, random, clock.now()).await;
    loaded.map_err(|error| match error {
        KeysError::MasterKeyMissing => Failure(format!(
            "{error}. Bring back the file {} from where this database comes, or set GUESTPASS_MASTER_KEY",
            file.display()
        )),
        KeysError::MasterKeyWrong => Failure(format!(
            "{error}: {place}. Bring the master key that belongs to the database {}, usually the file {} of the same \
             backup",
            config.database.display(),
            file.display()
        )),
        other => Failure(other.to_string()),
    })
}

/// Reads the master key, if there is one.
fn read_master_key(file: &Path) -> Result<Option<MasterKey>, Failure> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(Failure(format!(
                "the master key {}: {error}",
                file.display()
            )));
        }
    };
    warn_if_readable(file);
    MasterKey::parse(&text).map(Some).ok_or_else(|| {
        Failure(format!(
            "{} is not a master key, which is 32 bytes as base64: 44 characters. Bring back the right file",
            file.display()
        ))
    })
}

/// Writes a new master key, so that it is on the disk, whole, before anything depends on it, and replaces none.
fn keep(file: &Path, key: &MasterKey) -> std::io::Result<()> {
    let part = file.with_extension("part");
    let mut opened = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&part)?;
    writeln!(opened, "{}", key.expose())?;
    opened.sync_all()?;
    std::fs::hard_link(&part, file)?;
    std::fs::remove_file(&part)?;
    match file.parent() {
        Some(directory) if directory.as_os_str().is_empty() => File::open(".")?.sync_all(),
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

fn warn_if_readable(file: &Path) {
    let mode = std::fs::metadata(file).map_or(0, |metadata| metadata.permissions().mode());
    if mode & 0o077 != 0 {
        tracing::warn!(
            "others can read the master key {0}. Run: chmod 600 {0}",
            file.display()
        );
    }
}
