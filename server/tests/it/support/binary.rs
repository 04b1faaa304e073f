//! The real binary, run as an operator runs it: command after command on one data directory, or as a server.

use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{OnceLock, mpsc};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::connection::Connection;
use super::{Answer, Backend, Database, ISSUER, Sent, Stored, Tokens, authorize, exchange, sha256};

/// An installation of the binary: a data directory, which may not exist yet, and an environment.
pub(crate) struct Binary {
    directory: TempDir,
    environment: Vec<(String, String)>,
    /// A command of the shell, which it runs before it becomes the program.
    before: Option<String>,
    has_limits: bool,
    /// The place at which servers listen, unless they may choose a port.
    listen: Option<String>,
    /// The standard input of commands, if it isn't empty.
    stdin: Option<OwnedFd>,
    /// The database, unless it is a file in the data directory or the test has named another.
    database: OnceLock<Database>,
}

/// The result of a command that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Binary {
    /// Returns an installation that doesn't exist yet.
    pub(crate) fn new() -> Self {
        Self {
            directory: TempDir::new().unwrap(),
            environment: Vec::new(),
            before: None,
            has_limits: false,
            listen: None,
            stdin: None,
            database: OnceLock::new(),
        }
    }

    /// Sets a variable for all commands from now on.
    pub(crate) fn set_variable(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Has servers keep to the rate limits of their settings, as they don't otherwise unless a variable says so.
    pub(crate) fn keep_to_limits(&mut self) {
        self.has_limits = true;
    }

    /// Takes a variable back.
    pub(crate) fn clear_variable(&mut self, name: &str) {
        self.environment.retain(|(given, _)| given != name);
    }

    /// Has the shell run this before each command from now on, such as `ulimit`.
    pub(crate) fn run_under(&mut self, before: &str) {
        self.before = Some(before.to_owned());
    }

    /// Has servers listen on one port from now on, and sets the issuer to their address. Returns that.
    pub(crate) fn set_issuer_to_address(&mut self, scheme: &str) -> String {
        let address = free_address();
        self.listen = Some(address.to_string());
        let issuer = format!("{scheme}://{address}");
        self.set_variable("GUESTPASS_ISSUER", &issuer);
        issuer
    }

    /// Has servers listen there from now on, with an issuer, which can't follow from it.
    pub(crate) fn listen_at(&mut self, listen: &str) {
        self.listen = Some(listen.to_owned());
        self.set_variable("GUESTPASS_ISSUER", ISSUER);
    }

    /// Hands a socket over to each server from now on, as systemd does. `before` are commands of the shell, in which it is
    /// descriptor 0.
    pub(crate) fn hand_over(&mut self, socket: impl Into<OwnedFd>, before: &str) {
        self.listen_at("systemd");
        self.stdin = Some(socket.into());
        self.run_under(&format!("export LISTEN_PID=$$ && {before}"));
    }

    /// Returns the data directory that every command is given.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Returns the working directory of the commands: empty but for the data directory and the files of the test.
    pub(crate) fn working_dir(&self) -> &Path {
        self.directory.path()
    }

    /// Prepares a command without `--data-dir`. It sees only the environment that the test has set.
    pub(crate) fn bare_command(&self, args: &[&str]) -> Command {
        const PROGRAM: &str = env!("CARGO_BIN_EXE_guestpass");
        let mut command = match &self.before {
            None => Command::new(PROGRAM),
            Some(before) => {
                let mut shell = Command::new("/bin/sh");
                shell.args(["-c", &format!("{before} && exec \"$0\" \"$@\""), PROGRAM]);
                shell
            }
        };
        command
            .args(args)
            .env_clear()
            .envs(
                self.database
                    .get()
                    .map(|database| (DATABASE, database.url())),
            )
            // All nodes have the same one, so it must be set.
            .envs(self.database.get().map(|_| ("GUESTPASS_ISSUER", ISSUER)))
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(self.directory.path())
            .stdin(match &self.stdin {
                Some(stdin) => stdin.try_clone().unwrap().into(),
                None => Stdio::null(),
            });
        command
    }

    /// Prepares a command on the data directory.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        self.prepare();
        let data_dir = self.data_dir();
        self.bare_command(&[&["--data-dir", data_dir.to_str().unwrap()], args].concat())
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        run(self.command(args))
    }

    /// Runs a command that must succeed, and reads the JSON that it prints.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        self.run(&[&["--json"], args].concat()).json()
    }

    /// Runs a command that must fail with exit code 1, and returns its message.
    pub(crate) fn failure(&self, args: &[&str]) -> String {
        let ended = self.run(args);
        assert_eq!(
            (ended.code, ended.stdout.as_str()),
            (Some(1), ""),
            "{ended:?}"
        );
        ended.stderr
    }

    /// Starts a command, of which only standard error matters.
    pub(crate) fn start(&self, args: &[&str]) -> Running {
        self.prepare();
        let data_dir = self.data_dir();
        let args = [&["--data-dir", data_dir.to_str().unwrap()], args].concat();
        let mut command = self.bare_command(&args);
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = lines(child.stderr.take().unwrap());
        Running { child, lines }
    }

    /// Starts a server, on a port that the operating system chooses.
    pub(crate) fn serve(&self) -> Server {
        self.serve_with(&[])
    }

    /// Starts a server with more arguments.
    pub(crate) fn serve_with(&self, args: &[&str]) -> Server {
        let mut server = self.spawn(args);
        server.announced = server.line();
        server.address = announced_address(&server.announced);
        server
    }

    /// Starts a server. `None` if it ends instead, with the exit status of a failure.
    pub(crate) fn try_serve(&self) -> Option<Server> {
        let mut server = self.spawn(&[]);
        match server.lines.recv_timeout(PATIENCE) {
            Ok(line) => {
                server.address = announced_address(&line);
                server.announced = line;
                Some(server)
            }
            Err(_) => {
                assert_eq!(wait(&mut server.child).code(), Some(1), "{}", server.log());
                None
            }
        }
    }

    /// Returns the length of all that servers of this installation have written to standard error.
    pub(crate) fn log_length(&self) -> usize {
        fs::read(self.directory.path().join("log")).map_or(0, |log| log.len())
    }

    /// Returns all that servers of this installation have written to standard error, after their end.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap()
    }

    fn spawn(&self, args: &[&str]) -> Server {
        self.prepare();
        let data_dir = self.data_dir();
        let listen = self.listen.as_deref().unwrap_or("127.0.0.1:0");
        let always = [
            "--data-dir",
            data_dir.to_str().unwrap(),
            "serve",
            "--listen",
            listen,
        ];
        let log = self.directory.path().join("log");
        let mut command = self.bare_command(&[&always, args].concat());
        if !self.has_limits && !self.environment.iter().any(|(name, _)| name == LIMITS) {
            // All of a test's guests come from one address.
            command.env(LIMITS, "off");
        }
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(
                File::options()
                    .create(true)
                    .append(true)
                    .open(&log)
                    .unwrap(),
            )
            .spawn()
            .unwrap();
        let lines = lines(child.stdout.take().unwrap());
        Server {
            address: ([127, 0, 0, 1], 0).into(),
            announced: String::new(),
            child,
            lines,
            log,
        }
    }

    /// Prepares a PostgreSQL installation before the first command, as an operator does: a master key and the schema.
    fn prepare(&self) {
        let is_named = self.environment.iter().any(|(name, _)| name == DATABASE);
        let is_prepared = is_named || self.database.get().is_some();
        if matches!(Backend::of_this_run(), Backend::Sqlite) || is_prepared {
            return;
        }
        let _ = self.database.set(wait_for(Database::unmade()));
        let key_file = self.data_dir().join("master.key");
        fs::create_dir(self.data_dir()).unwrap();
        fs::write(&key_file, STANDARD.encode(sha256(b"a key"))).unwrap();
        for (path, mode) in [(self.data_dir(), 0o700), (key_file, 0o600)] {
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        }
        self.json(&["db", "migrate"]);
    }

    /// Runs SQL beside the server.
    pub(crate) fn sql(&self, sql: &str) {
        if let Some(database) = self.database.get() {
            wait_for(database.sql(sql));
        } else {
            let file = rusqlite::Connection::open(self.data_dir().join("guestpass.db"));
            file.unwrap().execute_batch(sql).unwrap();
        }
    }

    /// Returns the bytes of the database and the data directory.
    pub(crate) fn stored(&self) -> Stored {
        let database = self
            .database
            .get()
            .map(|database| wait_for(database.bytes()));
        let files = fs::read_dir(self.data_dir()).unwrap();
        let files = files.map(|file| fs::read(file.unwrap().path()).unwrap());
        Stored::in_all(files.chain(database.into_iter().flatten()))
    }
}

/// Has a command run as a user without rights, if the tests run as the one who has all.
pub(crate) fn without_rights(mut command: Command, of: &Binary) -> Command {
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::process::CommandExt;

    let directory = of.working_dir();
    if fs::metadata(directory).unwrap().uid() == 0 {
        fs::set_permissions(directory, Permissions::from_mode(0o755)).unwrap();
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// The user and the group that own nothing.
const NOBODY: u32 = 65_534;

/// Says what becomes of requests beyond the rate limits.
const LIMITS: &str = "GUESTPASS_LIMITS__MODE";

/// Names the database.
const DATABASE: &str = "GUESTPASS_DATABASE";

/// Waits for a future, within a runtime or without one.
fn wait_for<T: Send>(future: impl Future<Output = T> + Send) -> T {
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| Runtime::new().unwrap().block_on(future));
        waiting.join().unwrap()
    })
}

/// Parses the address of a server from the first line that it prints, for people or for scripts. A Unix socket has none.
fn announced_address(line: &str) -> SocketAddr {
    let json: Option<Value> = serde_json::from_str(line).ok();
    let url = match &json {
        Some(json) => json["listening"].as_str(),
        None => line.strip_prefix("listening on "),
    };
    if url.is_some_and(|url| url.starts_with("unix:")) {
        return ([127, 0, 0, 1], 0).into();
    }
    let address = url.and_then(|url| Some(url.split_once("://")?.1));
    address.unwrap_or_else(|| panic!("{line}")).parse().unwrap()
}

/// A running command.
pub(crate) struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Running {
    /// Waits for a line that begins like that.
    pub(crate) fn says(&self, beginning: &str) {
        let next = || self.lines.recv_timeout(PATIENCE).expect("it says more");
        while !next().starts_with(beginning) {}
    }

    /// Waits for a line that has this text in it.
    pub(crate) fn says_within(&self, text: &str) {
        let next = || self.lines.recv_timeout(PATIENCE).expect("it says more");
        while !next().contains(text) {}
    }

    /// Kills the process with SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends a signal, and waits for the end. Returns what else it has said as well.
    pub(crate) fn ends_with(mut self, signal: &str) -> (ExitStatus, String) {
        send_signal(&self.child, signal);
        let status = wait(&mut self.child);
        (status, self.lines.iter().collect::<Vec<_>>().join("\n"))
    }
}

/// Sends a signal. The standard library has no other than SIGKILL; every shell does.
fn send_signal(child: &Child, signal: &str) {
    let id = child.id().to_string();
    let sent = Command::new("sh")
        .args(["-c", "kill -$1 \"$0\"", &id, signal])
        .status()
        .unwrap();
    assert!(sent.success());
}

/// A server that is killed at the end of its test, if it is still there.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// Returns the first line that it printed.
    pub(crate) announced: String,
    child: Child,
    lines: mpsc::Receiver<String>,
    log: PathBuf,
}

impl Server {
    /// Sends one request on a connection of its own.
    pub(crate) fn send(&self, request: &Sent) -> Answer {
        self.connect().send(request).unwrap()
    }

    /// Takes a new guest of [`SHOP`](super::SHOP) through authorize and exchange.
    pub(crate) fn guest(&self) -> Tokens {
        let code = self.send(&authorize()).text("code");
        self.send(&exchange(&code)).tokens()
    }

    /// Opens a connection.
    pub(crate) fn connect(&self) -> Connection {
        match self.announced.strip_prefix("listening on unix:") {
            Some(path) => Connection::open_unix(path).unwrap(),
            None => Connection::open(self.address).unwrap(),
        }
    }

    pub(crate) fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// Returns all that servers of this installation have written to standard error.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Reads the next line of standard output.
    fn line(&mut self) -> String {
        self.lines
            .recv_timeout(PATIENCE)
            .unwrap_or_else(|_| panic!("the server says nothing: {}", self.log()))
    }

    /// Kills the process with SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until the server ends by itself.
    pub(crate) fn ended(mut self) -> ExitStatus {
        wait(&mut self.child)
    }

    /// Returns whether the server has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: &str) {
        send_signal(&self.child, signal);
    }

    /// Sends SIGTERM, and waits for the end.
    pub(crate) fn stop(mut self) -> ExitStatus {
        send_signal(&self.child, "TERM");
        wait(&mut self.child)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// The JSON that a command which succeeded has printed, all of it.
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.code, Some(0), "{self:?}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }
}

/// Runs a command to its end.
pub(crate) fn run(mut command: Command) -> Ended {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The output of a command fits into a pipe, so that it can end before it is read.
    let code = wait(&mut child).code();
    let (mut stdout, mut stderr) = (String::new(), String::new());
    child.stdout.unwrap().read_to_string(&mut stdout).unwrap();
    child.stderr.unwrap().read_to_string(&mut stderr).unwrap();
    Ended {
        code,
        stdout,
        stderr,
    }
}

/// Polls until `done` holds.
pub(crate) fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "still not: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Returns an address that nobody listens at. Its port is below those from which the system takes the ports of connections:
/// one of those could be the near end of another test's connection by the time it is used.
pub(crate) fn free_address() -> SocketAddr {
    static TRIED: AtomicU16 = AtomicU16::new(0);
    // Another run of the tests begins elsewhere.
    let first = 20_000 + (std::process::id() % 10) as u16 * 1000;
    (0..1000)
        .map(|_| {
            let port = first + TRIED.fetch_add(1, Ordering::Relaxed);
            SocketAddr::from(([127, 0, 0, 1], port))
        })
        .find(|address| TcpListener::bind(address).is_ok())
        .unwrap()
}

/// The deadline of any wait: longer than anything takes on the busiest machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for the end of a process, but not for ever.
fn wait(child: &mut Child) -> ExitStatus {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if start.elapsed() > PATIENCE {
            let _ = child.kill();
            let _ = child.wait();
            panic!("process {} didn't end", child.id());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Reads the lines of a pipe in a thread, so that waiting for one can time out.
fn lines(pipe: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    lines
}
