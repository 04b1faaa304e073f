//! Starts the processes that are measured, reads what they use and ends them.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use crate::failure::Failure;

/// Drives a process over its standard input and output.
pub(crate) struct Process {
    child: Child,
    output: BufReader<ChildStdout>,
    input: Option<ChildStdin>,
}

/// Holds a process that listens.
pub(crate) struct Server {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
    /// If it speaks TLS: the settings for its clients.
    pub(crate) tls: Option<Arc<ClientConfig>>,
    /// Address of the operators' API.
    admin: Option<SocketAddr>,
    log: PathBuf,
}

/// Adds up the resources that a process has used since its start.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Used {
    /// Of all threads, those that have ended included.
    pub(crate) cpu: Duration,
    /// Bytes written to files and sockets, without the log.
    pub(crate) written: u64,
    /// Group commits; each syncs SQLite's log once.
    pub(crate) commits: u64,
    /// Writes in these commits.
    pub(crate) writes: u64,
}

impl std::ops::Sub for Used {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(before.cpu),
            written: self.written.saturating_sub(before.written),
            commits: self.commits - before.commits,
            writes: self.writes - before.writes,
        }
    }
}

/// Holds the memory of a process in KiB.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// `VmRSS`, mapped files included.
    pub(crate) resident: u64,
    /// `RssAnon`, without mapped files.
    pub(crate) anonymous: u64,
    /// `VmHWM`, the most that was resident so far.
    pub(crate) peak: u64,
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> Result<Self, Failure> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|error| {
            let program = command.get_program().display();
            Failure(format!("{program} can't be started: {error}"))
        })?;
        let output = child.stdout.take().expect("it is piped");
        Ok(Self {
            input: child.stdin.take(),
            child,
            output: BufReader::new(output),
        })
    }

    /// Reads a line of its output.
    pub(crate) fn line(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        match self.output.read_line(&mut line)? {
            0 => Err(Failure("the process has ended".into())),
            _ => Ok(line.trim_end().to_owned()),
        }
    }

    /// Sends a line and reads one.
    pub(crate) fn ask(&mut self, question: &str) -> Result<String, Failure> {
        let input = self.input.as_mut().expect("it is open until the end");
        writeln!(input, "{question}")?;
        input.flush()?;
        self.line()
    }

    /// Returns the CPU time, user and system, to the hundredth of a second.
    pub(crate) fn cpu(&self) -> Result<Duration, Failure> {
        let stat = self.read("stat")?;
        // The name in parentheses may hold anything; numbers follow.
        let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
        let ticks = fields.split(' ').skip(11).take(2).map(str::parse::<u64>);
        let ticks: u64 = ticks.sum::<Result<_, _>>()?;
        Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
    }

    /// Reads how much memory it has.
    pub(crate) fn memory(&self) -> Result<Memory, Failure> {
        let status = self.read("status")?;
        Ok(Memory {
            resident: field(&status, "VmRSS:"),
            anonymous: field(&status, "RssAnon:"),
            peak: field(&status, "VmHWM:"),
        })
    }

    /// Sends SIGTERM and waits for the end.
    pub(crate) fn stop(&mut self) -> Result<(), Failure> {
        let own = self.child.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &own]).status()?;
        if !asked.success() {
            return Err(Failure(format!("process {own} can't be ended")));
        }
        self.child.wait()?;
        Ok(())
    }

    fn read(&self, file: &str) -> Result<String, Failure> {
        Ok(fs::read_to_string(format!(
            "/proc/{}/{file}",
            self.child.id()
        ))?)
    }
}

/// `USER_HZ`, the unit of `/proc/PID/stat`.
const TICKS_PER_SECOND: u64 = 100;

impl Drop for Process {
    fn drop(&mut self) {
        self.input = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts `guestpass serve` on a data directory, with settings for the environment, and without limits: one address makes
    /// all of the load.
    pub(crate) fn guestpass(
        program: &Path,
        directory: &Path,
        settings: &[(&str, &str)],
    ) -> Result<Self, Failure> {
        let unlimited = [
            ("GUESTPASS_LIMITS__MODE", "off"),
            ("GUESTPASS_CONNECTIONS_PER_ADDRESS", "off"),
        ];
        Self::limited(program, directory, &[&unlimited[..], settings].concat())
    }

    /// Starts it with the limits that it has by default.
    pub(crate) fn limited(
        program: &Path,
        directory: &Path,
        settings: &[(&str, &str)],
    ) -> Result<Self, Failure> {
        let admin = free_address()?;
        let log = directory.with_extension("log");
        let mut command = Command::new(program);
        command
            .arg("serve")
            .env("GUESTPASS_DATA_DIR", directory)
            .env("GUESTPASS_LISTEN", "127.0.0.1:0")
            .env("GUESTPASS_ADMIN_LISTEN", admin.to_string())
            .envs(settings.iter().copied())
            .stderr(File::create(&log)?);
        let mut server = Self::listening(&mut command, log.clone()).map_err(|Failure(error)| {
            let log = fs::read_to_string(&log).unwrap_or_default();
            Failure(format!("guestpass serve: {error}\n{log}"))
        })?;
        server.admin = Some(admin);
        Ok(server)
    }

    /// Starts a floor.
    pub(crate) fn floor(arguments: &[&str]) -> Result<Self, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("floor").args(arguments);
        Self::listening(&mut command, PathBuf::new())
    }

    /// Sets the TLS settings for its clients.
    pub(crate) fn with_tls(self, client: Arc<ClientConfig>) -> Self {
        Self {
            tls: Some(client),
            ..self
        }
    }

    fn listening(command: &mut Command, log: PathBuf) -> Result<Self, Failure> {
        let mut process = Process::start(command)?;
        let line = process.line()?;
        let address = line.split_once("://").and_then(|(_, address)| {
            let end = address.find(|c: char| !(c.is_ascii_digit() || ".:[]".contains(c)));
            address[..end.unwrap_or(address.len())].parse().ok()
        });
        Ok(Self {
            process,
            address: address.ok_or_else(|| Failure(format!("no address in: {line}")))?,
            tls: None,
            admin: None,
            log,
        })
    }

    /// Reads the resources that it has used since its start.
    pub(crate) fn used(&self) -> Result<Used, Failure> {
        let logged = self.logged();
        let metrics = self.metrics()?;
        let count = |name: &str| {
            let line = metrics.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|value| value.trim().parse::<f64>().ok())
                .map_or(0, |value| value as u64)
        };
        Ok(Used {
            cpu: self.process.cpu()?,
            written: field(&self.process.read("io")?, "wchar:").saturating_sub(logged),
            commits: count("guestpass_batch_writes_count "),
            writes: count("guestpass_batch_writes_sum "),
        })
    }

    /// Returns the length of its log.
    pub(crate) fn logged(&self) -> u64 {
        fs::metadata(&self.log).map_or(0, |metadata| metadata.len())
    }

    /// Reads the metrics from the operators' API; nothing if there is none.
    fn metrics(&self) -> Result<String, Failure> {
        let Some(address) = self.admin else {
            return Ok(String::new());
        };
        let mut stream = TcpStream::connect(address)?;
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

fn field(text: &str, name: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    let number = value.and_then(|value| value.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Returns an address that nobody listens on at the moment.
fn free_address() -> Result<SocketAddr, Failure> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Returns the path of the database in a data directory.
pub(crate) fn database(directory: &Path) -> PathBuf {
    directory.join("guestpass.db")
}

/// Writes back all dirty pages, lest a scenario pay for the one before it. Gives up after a while, since others may write all
/// the time.
pub(crate) fn settle() -> Result<(), Failure> {
    let (start, mut sync) = (Instant::now(), Command::new("sync").spawn()?);
    while sync.try_wait()?.is_none() && start.elapsed() < SETTLED_AFTER {
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

const SETTLED_AFTER: Duration = Duration::from_secs(5);

/// Records how long appending 4 KiB and syncing them takes, again and again for so long.
pub(crate) fn measure_sync(
    directory: &Path,
    time: Duration,
    mut record: impl FnMut(Duration),
) -> Result<(), Failure> {
    let path = directory.join("sync");
    let mut file = File::create(&path)?;
    let (block, start) = ([b'x'; 4096], Instant::now());
    while start.elapsed() < time {
        let begun = Instant::now();
        file.write_all(&block)?;
        file.sync_data()?;
        record(begun.elapsed());
    }
    Ok(fs::remove_file(path)?)
}
