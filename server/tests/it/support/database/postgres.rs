//! A PostgreSQL database for each test, on a server that is started for the tests.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, ToSocketAddrs};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use guestpass::clock::{SteadyClock, SystemClock};
use guestpass::config::Config;
use guestpass::random::Random;
use guestpass::store::Store;
use guestpass::store::postgres::{Connection, PostgresStore};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::OnceCell;
use tokio_postgres::config::Host;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::Row;
use crate::support::{Overheard, config};

pub(super) const SIZE: &str = "
    select sum(pg_relation_size(oid)) from pg_class where relnamespace = current_schema()::regnamespace";
pub(super) const SCHEMA: &str = "
    select table_name, column_name, data_type from information_schema.columns where table_schema = current_schema()
    union all select tablename, indexname, indexdef from pg_indexes where schemaname = current_schema()
    order by 1, 2";
/// Removes dead rows. VACUUM would keep those that a session of any database might still see.
pub(super) const SETTLE: &str = "
    do $$
    declare name text;
    begin
        for name in select tablename from pg_tables where schemaname = current_schema() loop
            execute format('create temporary table kept as table %I', name);
            execute format('truncate %I', name);
            execute format('insert into %I table kept', name);
            drop table kept;
        end loop;
    end $$";

#[derive(Clone)]
pub(crate) struct Database {
    own: Arc<Own>,
    /// The schema in that database. A copy has another schema in the same database, so that one statement fills it.
    schema: String,
    client: Arc<OnceCell<Client>>,
    /// The address of a proxy that stores connect to instead of the server.
    detour: Option<SocketAddr>,
}

/// The name of a database, which is dropped with this value.
struct Own(String);

impl Drop for Own {
    fn drop(&mut self) {
        let server = Server::of_this_run();
        let drop = format!("drop database {} with (force)", self.0);
        server
            .runtime
            .spawn(async move { server.client.batch_execute(&drop).await });
    }
}

impl Database {
    pub(super) async fn new(random: &dyn Random) -> Self {
        let database = Self::copied(template(random).await).await;
        let id = random
            .bytes::<16>()
            .map(|byte| format!("{byte:02x}"))
            .concat();
        let own_id = format!("update installation set installation_id = '\\x{id}'");
        database.sql(&own_id).await;
        database
    }

    pub(super) async fn unmade() -> Self {
        Self::copied("template0").await
    }

    async fn copied(template: &str) -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "test_{}_{}",
            std::process::id(),
            MADE.fetch_add(1, Ordering::Relaxed)
        );
        let create = format!("create database {name} template {template} strategy file_copy");
        Server::of_this_run()
            .client
            .batch_execute(&create)
            .await
            .unwrap();
        Self::of(Arc::new(Own(name)), "public")
    }

    fn of(own: Arc<Own>, schema: &str) -> Self {
        Self {
            own,
            schema: schema.to_owned(),
            client: Arc::default(),
            detour: None,
        }
    }

    pub(super) fn beside(&self, name: &str) -> Self {
        Self::of(self.own.clone(), name)
    }

    pub(super) fn overheard(self) -> (Self, Overheard) {
        let url: tokio_postgres::Config = self.url().parse().unwrap();
        let [Host::Tcp(host), ..] = url.get_hosts() else {
            panic!("a socket can't be overheard");
        };
        let server = (host.as_str(), url.get_ports()[0]).to_socket_addrs();
        let overheard = Overheard::before(server.unwrap().next().unwrap());
        let detour = Some(overheard.address());
        (Self { detour, ..self }, overheard)
    }

    pub(super) async fn copy_to(&self, other: &Self) {
        let (from, to) = (&self.schema, &other.schema);
        let copy = format!(
            "do $$
             declare name text;
             begin
                 set local client_min_messages = warning;
                 create schema if not exists {to};
                 for name in select tablename from pg_tables where schemaname = '{from}' loop
                     execute format('create table if not exists {to}.%1$I (like {from}.%1$I including all)', name);
                     execute format('delete from {to}.%1$I', name);
                     execute format('insert into {to}.%1$I table {from}.%1$I', name);
                 end loop;
             end $$"
        );
        self.sql(&copy).await;
    }

    pub(super) async fn open(&self, config: &Config) -> Arc<dyn Store> {
        let clock = SteadyClock::new(Arc::new(SystemClock::new()));
        let mut url = self.url();
        if let Some(detour) = self.detour {
            let (user, host) = url.split_once('@').unwrap();
            let (_, rest) = host.split_once('/').unwrap();
            url = format!("{user}@{detour}/{rest}");
        }
        let connection = connection(&url, config);
        let store = PostgresStore::open(&connection, Arc::new(clock)).await;
        Arc::new(store.unwrap())
    }

    pub(super) async fn sql(&self, sql: &str) -> Vec<Row> {
        let mut rows = Vec::new();
        for message in self.client().await.simple_query(sql).await.unwrap() {
            if let SimpleQueryMessage::Row(row) = message {
                let values = (0..row.len()).map(|at| row.get(at).map(ToOwned::to_owned));
                rows.push(values.collect());
            }
        }
        rows
    }

    /// Reads the files of tables and indexes. The write-ahead log is missing, for all databases share it.
    pub(super) async fn bytes(&self) -> Vec<Vec<u8>> {
        const SQL: &str = "
            select pg_read_binary_file(pg_relation_filepath(oid)) from pg_class
             where relnamespace = current_schema()::regnamespace and pg_relation_filenode(oid) is not null
                   or oid in (select reltoastrelid from pg_class where relnamespace = current_schema()::regnamespace)";
        self.sql("checkpoint").await;
        let files = self.client().await.query(SQL, &[]).await.unwrap();
        files.iter().map(|row| row.get(0)).collect()
    }

    /// Locks the tables of guests against writes, until the returned session is dropped.
    pub(super) async fn hold_writes(&self) -> Client {
        const LOCK: &str = "
            begin;
            lock table profiles, grants, revoked_access_tokens, tombstones, probe in exclusive mode";
        let other = connect(&self.url()).await;
        other.batch_execute(LOCK).await.unwrap();
        other
    }

    pub(super) async fn hold(&self, sql: &str) -> Client {
        let other = connect(&self.url()).await;
        other.batch_execute("begin").await.unwrap();
        other.batch_execute(sql).await.unwrap();
        other
    }

    async fn client(&self) -> &Client {
        self.client
            .get_or_init(async || connect(&self.url()).await)
            .await
    }

    pub(super) fn url(&self) -> String {
        let server = Server::of_this_run().url(&self.own.0);
        format!("{server}?options=-csearch_path%3D{}", self.schema)
    }
}

/// Returns the name of a template database with the schema and nothing else, which is made once in a process: copying
/// it is quicker than running the migrations.
async fn template(random: &dyn Random) -> &'static str {
    static TEMPLATE: OnceCell<String> = OnceCell::const_new();
    let make = async || {
        let server = Server::of_this_run();
        let name = format!("template_{}", std::process::id());
        let create = format!("create database {name}");
        server.client.batch_execute(&create).await.unwrap();
        let connection = connection(&server.url(&name), &config(&[]));
        PostgresStore::migrate(&connection, random).await.unwrap();
        name
    };
    TEMPLATE.get_or_init(make).await
}

/// Builds the settings of a store's connection from a URL and the configuration.
fn connection(url: &str, config: &Config) -> Connection {
    let number = |name| {
        let mut settings = config.shown.iter();
        let setting = settings.find(|setting| setting.name == name);
        setting.unwrap().value.parse().unwrap()
    };
    let (connections, batch) = (number("postgres.connections"), number("postgres.batch"));
    Connection::parse(url, connections, batch).unwrap()
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// A server for one test alone. On a shared one, a login to any database delays the removal of dead rows.
pub(crate) struct Alone {
    pub(crate) url: String,
    process: Option<Child>,
}

impl Alone {
    pub(crate) fn start() -> Self {
        let (url, process) = start();
        Self { url, process }
    }

    /// Opens a session in its one database.
    pub(crate) async fn client(&self) -> Client {
        connect(&self.url).await
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            drop(process.stdin.take());
            let _ = process.wait();
        }
    }
}

/// The server that all tests of a process share.
struct Server {
    /// Its URL, up to the name of a database.
    address: String,
    client: Client,
    /// Drives the client beyond the runtimes of single tests.
    runtime: Runtime,
    /// Ends with this process, which closes its standard input.
    _started: Option<Child>,
}

impl Server {
    /// Returns the server that `GUESTPASS_TEST_POSTGRES` names, with a superuser, or starts one.
    fn of_this_run() -> &'static Self {
        static SERVER: OnceLock<Server> = OnceLock::new();
        // A runtime can't block on another one in the same thread.
        SERVER.get_or_init(|| std::thread::spawn(Self::find).join().unwrap())
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "it says what the tests run on, which is nothing of the program's"
    )]
    fn find() -> Self {
        let (url, started) = match std::env::var("GUESTPASS_TEST_POSTGRES") {
            Ok(url) => (url, None),
            Err(_) => start(),
        };
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        let runtime = runtime.unwrap();
        let client = runtime.block_on(connect(&url));
        let (address, _) = url.rsplit_once('/').unwrap();
        Self {
            address: address.to_owned(),
            client,
            runtime,
            _started: started,
        }
    }

    fn url(&self, database: &str) -> String {
        format!("{}/{database}", self.address)
    }
}

fn start() -> (String, Option<Child>) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/postgres");
    let mut child = Command::new(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut url = String::new();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    output.read_line(&mut url).unwrap();
    assert!(
        !url.is_empty(),
        "there is no PostgreSQL: see what tests/postgres says"
    );
    (url.trim_end().to_owned(), Some(child))
}
