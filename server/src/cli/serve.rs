//! `guestpass serve`: runs the listeners and the background tasks of a server.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use super::database::{self, Opened, make_directories};
use super::descriptors;
use super::exposure;
use super::issuer;
use super::lock::Lock;
use super::master_key::open_or_make_keys;
use super::renewal::{Load, Renewal};
use super::{Failure, Output, places, starting};
use crate::app::App;
use crate::config::{Admin, AdminTls, Certificate, Config, Database, Issuer, Keep, Listen};
use crate::http::{self, admin};
use crate::listen::{self, Listener, Reserved};
use crate::marks;
use crate::progress::waiting;
use crate::random::SecureGenerator;
use crate::start::{self, Parts, StartError};
use crate::store::{Store, Unavailable};
use crate::telemetry;
use crate::timing::FOLLOW_EVERY;
use crate::upkeep::Cleaner;
use crate::webhooks::{self, Deliverer, Receiver};

#[derive(clap::Args)]
pub(super) struct Args {
    /// ADDRESS:PORT to listen on; or unix:PATH, for a proxy; or systemd, for a socket unit [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    listen: Option<Listen>,
    /// The `iss` of every token; needed unless the address is loopback
    #[arg(long, value_name = "URL")]
    issuer: Option<Issuer>,
}

impl Args {
    pub(super) fn add_flags(&self, flags: &mut Vec<(&'static str, String)>) {
        flags.extend(
            self.listen
                .iter()
                .map(|listen| ("listen", listen.to_string())),
        );
        flags.extend(
            self.issuer
                .iter()
                .map(|issuer| ("issuer", issuer.as_str().to_owned())),
        );
    }
}

/// Serves with `config`, which `load` reads again on SIGHUP.
pub(super) async fn run(
    config: Config,
    load: Load,
    hangup: Signal,
    output: Output,
) -> Result<(), Failure> {
    let log = telemetry::start(config.log_level, config.log_format, config.log_repeats);
    let mut stop_signals = StopSignals::new()?;
    let Some(server) = starting::start(&config, stop_signals.next()).await? else {
        drop(log);
        // At once: the start is still at work on its thread, and would panic if the runtime ended under it.
        std::process::exit(0);
    };
    let url = config.url_of(&server.place);
    output.print(
        &json!({"listening": url, "issuer": server.issuer.as_str()}),
        || format!("listening on {url}"),
    )?;
    let secrets = server.receiver.as_ref().map(Receiver::secrets);
    let renewal = Renewal {
        app: Arc::downgrade(&server.app),
        certificate: server.certificate.clone(),
        load,
        in_use: config.shown,
        database: match config.database {
            Database::Postgres(connection) => Some(*connection),
            Database::Sqlite(_) => None,
        },
        token: config.admin.and_then(|admin| admin.token),
        webhook: config.events.webhook.zip(secrets),
        level: log.level(),
    };
    let renewing = tokio::spawn(renewal.run(hangup));
    let (stop, stopped) = oneshot::channel();
    // The server hears of the first signal when that has been taken, lest a second that comes as it leaves counts as the same.
    let forced = async {
        stop_signals.next().await;
        let _ = stop.send(());
        stop_signals.next().await;
    };
    let ended = tokio::select! {
        ended = server.run(stopped) => ended,
        () = forced => {
            tracing::warn!("told to end a second time: ended at once");
            Ok(())
        }
    };
    renewing.abort();
    ended
}

/// A server that listens and is ready to run.
pub(super) struct Server {
    pub(super) place: Listen,
    pub(super) issuer: Issuer,
    app: Arc<App>,
    store: Arc<dyn Store>,
    listener: Listener,
    connections: listen::Settings,
    certificate: Option<Arc<Certificate>>,
    admin: Option<(Listener, Admin)>,
    keep: Keep,
    clean_after: Duration,
    receiver: Option<Receiver>,
    lock: Option<Lock>,
}

impl Server {
    /// Locks the data directory, opens the store, loads or makes the keys, and binds the listeners.
    pub(super) async fn start(config: &Config) -> Result<Self, Failure> {
        let Required {
            certificate,
            receiver,
        } = require_settings(config)?;
        make_directories(config)?;
        let (lock, checked) = match &config.database {
            Database::Sqlite(file) if file.exists() => {
                let lock = Lock::take(file, "")?;
                let checked = database::examine_locked(file).await?;
                checked.log_left();
                (Some(lock), Some(checked))
            }
            Database::Sqlite(_) | Database::Postgres(_) => (None, None),
        };
        let what = format!("waiting for the database {}", config.database);
        let (opened, is_new) = waiting(&what, database::open_or_make_examined(config)).await?;
        drop(checked);
        if is_new {
            tracing::warn!(
                database = %config.database,
                "there was no database, so this is a new installation without guests"
            );
        }
        let lock = match (&config.database, lock) {
            (Database::Sqlite(file), None) => Some(Lock::take(file, "")?),
            (_, lock) => lock,
        };
        // Before the first write. After a crash the log may have filled the disk, and may hold what a failed sync has lost,
        // behind which nothing may be added.
        if let Err(error) = opened.store.give_back_room().await {
            tracing::warn!(error = %error, "the log could not be moved into the database file");
        }
        if let Database::Sqlite(file) = &config.database {
            database::begin_log(file).await?;
        }
        database::require_whole(config, &opened).await?;
        let keys = open_or_make_keys(config, &opened).await?;
        exposure::warn_of(config);
        let Opened { store, clock } = opened;
        // Nobody can connect before the server can answer, but that the address is taken is found out now.
        let reserved = reserve(&config.listen, "--listen")?;
        let admin_reserved = config
            .admin
            .as_ref()
            .map(|admin| reserve(&Listen::Address(admin.listen), "admin_listen"))
            .transpose()?;
        let place = reserved.place()?;
        config.check_tls_on(&place)?;
        let issuer = issuer::agree(config, &*store, config.issuer_on(&place)?).await?;
        if let Some(lock) = &lock {
            lock.say(&format!(" on {}", config.url_of(&place)))?;
        }
        let parts = Parts {
            store: store.clone(),
            keys,
            issuer: issuer.clone(),
            clock,
            random: Arc::new(SecureGenerator::new()),
        };
        let app = start::start(config, parts).await;
        let app = app.map_err(|error| cannot_start(config, error))?;
        let listener = listen(reserved, "--listen")?;
        let admin = match admin_reserved.zip(config.admin.clone()) {
            Some((reserved, admin)) => Some((listen(reserved, "admin_listen")?, admin)),
            None => None,
        };
        Ok(Self {
            place,
            issuer,
            app,
            store,
            listener,
            connections: connections(config, certificate.clone())?,
            certificate,
            admin,
            keep: config.keep,
            clean_after: config.clean_after,
            receiver,
            lock,
        })
    }

    /// Serves until `stop` is done and the connections have drained. Fails if the store can't be gone on with.
    pub(super) async fn run(self, stop: impl Future) -> Result<(), Failure> {
        let following = tokio::spawn(follow(Arc::clone(&self.app)));
        let tending = tokio::spawn(tend_storage(Arc::clone(&self.app)));
        let marking = tokio::spawn(marks::make(Arc::clone(&self.app)));
        let cleaner = Cleaner::new(&self.app, self.keep, self.receiver.is_some());
        let cleaning = tokio::spawn(cleaner.run(self.clean_after));
        let delivering = self
            .receiver
            .map(|receiver| tokio::spawn(Deliverer::new(Arc::clone(&self.app), receiver).run()));
        let administering = self.admin.map(|(listener, admin)| {
            let settings = listen::Settings {
                tls: self
                    .connections
                    .tls
                    .clone()
                    .filter(|_| admin.tls == AdminTls::On),
                max_connections: ADMIN_CONNECTIONS,
                ..listen::Settings::default()
            };
            let router = admin::router(Arc::clone(&self.app), admin);
            tokio::spawn(listen::serve(
                listener,
                settings,
                router,
                std::future::pending(),
            ))
        });
        tracing::info!(address = %self.place, issuer = self.issuer.as_str(), "serving");
        let failed = OnceLock::new();
        let stop = async {
            tokio::select! {
                _ = stop => {}
                failure = self.store.failure() => {
                    let _ = failed.set(failure);
                }
            }
            tracing::info!("ending: requests under way are answered");
            self.app.leave();
        };
        let router = http::router(Arc::clone(&self.app));
        listen::serve(self.listener, self.connections, router, stop).await;
        self.app.finish().await;
        self.app.note_time().await;
        for task in [
            Some(following),
            Some(tending),
            Some(marking),
            Some(cleaning),
            delivering,
            administering,
        ]
        .into_iter()
        .flatten()
        {
            task.abort();
            let _ = task.await;
        }
        // Carries out what was answered with 503 a moment ago, lest only the next start does; and makes a mark, lest that
        // takes a backup of the last minute for the database that was closed here.
        let last = async {
            self.app.tend_storage().await;
            self.app.mark().await
        };
        if let Ok(Err(error)) = tokio::time::timeout(LAST_TRY, last).await {
            tracing::warn!(error = %error, "the journal could not be marked at the end");
        }
        // So that the file says that it was closed, whoever still has it open. After a failed sync nothing is moved.
        let _ = self.store.give_back_room().await;
        drop(self.app);
        // Else the process might end while the store is being closed, which looks like a crash.
        let _ = tokio::time::timeout(LAST_TRY, only_one_has(&self.store)).await;
        drop(self.store);
        tracing::info!("stopped");
        drop(self.lock);
        match failed.into_inner() {
            Some(Unavailable(problem)) => Err(Failure(problem)),
            None => Ok(()),
        }
    }
}

/// Makes the receiver of webhooks, if there is one.
pub(super) fn receiver_of(config: &Config) -> Result<Option<Receiver>, Failure> {
    let webhook = config.events.webhook.as_ref();
    let receiver = webhook.map(|webhook| Receiver::new(webhook, webhooks::DEADLINE));
    receiver.transpose().map_err(Failure)
}

fn cannot_start(config: &Config, error: StartError) -> Failure {
    match error {
        StartError::Unavailable(error) => Failure(format!("{}: {error}", config.database)),
        error => error.into(),
    }
}

/// Waits until nobody else has the store: connections and tasks that are over let go of it a moment later.
async fn only_one_has(store: &Arc<dyn Store>) {
    while Arc::strong_count(store) > 1 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Returns the settings of the public listener, with as many connections as there is room for.
fn connections(
    config: &Config,
    certificate: Option<Arc<Certificate>>,
) -> Result<listen::Settings, Failure> {
    Ok(listen::Settings {
        tls: certificate.map(Certificate::server_config).transpose()?,
        max_connections: descriptors::room_for_connections(config),
        ..config.connections.clone()
    })
}

/// Checks all that a start asks of the settings and of the places that they name before it touches anything, and reads the
/// certificate. `config check` does the same.
pub(super) fn require_settings(config: &Config) -> Result<Required, Failure> {
    config.issuer_on(&config.listen)?;
    config.check_tls_on(&config.listen)?;
    if let Some(admin) = &config.admin
        && config.listen.excludes(admin.listen)
    {
        return Err(Failure(format!(
            "admin_listen = {}: the public API listens there as well, on {}. Choose another port for one of them",
            admin.listen, config.listen
        )));
    }
    let certificate = config.tls.as_ref().map(Certificate::read).transpose()?;
    let certificate = certificate.map(Arc::new);
    let receiver = receiver_of(config)?;
    places::require_usable(config)?;
    Ok(Required {
        certificate,
        receiver,
    })
}

/// Holds what was read while the settings were checked.
pub(super) struct Required {
    /// The certificate of the public listener.
    pub(super) certificate: Option<Arc<Certificate>>,
    /// The receiver of webhooks.
    receiver: Option<Receiver>,
}

/// Checks that a start could take its addresses, and returns those that somebody has taken already, as a running server has.
/// Listens on none, and lets each go at once. A socket that would be handed over can't be looked at.
pub(super) fn taken_addresses(config: &Config) -> Result<Vec<Listen>, Failure> {
    let admin = config.admin.as_ref();
    let admin = admin.map(|admin| (Listen::Address(admin.listen), "admin_listen"));
    let public = Some((config.listen.clone(), "--listen"));
    let public = public.filter(|(place, _)| *place != Listen::HandedOver);
    let mut taken = Vec::new();
    for (place, setting) in public.into_iter().chain(admin) {
        match Reserved::take(&place) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => taken.push(place),
            Err(error) => return Err(cannot_listen(&place, &error, setting)),
        }
    }
    Ok(taken)
}

/// The connections of operators and of what reads the metrics.
const ADMIN_CONNECTIONS: usize = 64;

/// The time that the last writes have: what was answered with 503 is carried out, and the journal marked.
const LAST_TRY: Duration = Duration::from_secs(1);

/// Takes an address without listening on it: whoever connects is refused.
fn reserve(place: &Listen, setting: &str) -> Result<Reserved, Failure> {
    Reserved::take(place).map_err(|error| cannot_listen(place, &error, setting))
}

fn listen(reserved: Reserved, setting: &str) -> Result<Listener, Failure> {
    let place = reserved.place()?;
    let listener = reserved.listen();
    let listener = listener.map_err(|error| cannot_listen(&place, &error, setting))?;
    if let Some(exposed) = exposure::of_socket(&place) {
        tracing::warn!("{exposed}");
    }
    Ok(listener)
}

fn cannot_listen(place: &Listen, error: &io::Error, setting: &str) -> Failure {
    Failure(format!(
        "can't listen on {place}: {error}. Choose another address with {setting}"
    ))
}

/// The signals that tell a process to end: SIGTERM and SIGINT.
pub(super) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    pub(super) fn new() -> Result<Self, Failure> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next one. Those of one kind that have come since the last call count as one.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Looks after what the store keeps on disks, for ever. Apart from [`follow`], which must not wait for a slow disk.
async fn tend_storage(app: Arc<App>) {
    loop {
        tokio::time::sleep(FOLLOW_EVERY).await;
        app.tend_storage().await;
    }
}

/// Polls for changes of operators and other nodes, for ever.
async fn follow(app: Arc<App>) {
    loop {
        tokio::time::sleep(FOLLOW_EVERY).await;
        app.follow().await;
    }
}
