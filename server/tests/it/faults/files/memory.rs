//! Tests what leaves the memory of the process, and how.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use crate::support::SHOP;
use crate::support::binary::Binary;

/// Starts a server where core dumps of any size are allowed, and waits until it listens.
fn serve_with_cores(binary: &Binary) -> Child {
    let server = binary.command(&["serve", "--listen", "127.0.0.1:0"]);
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -c unlimited && exec \"$0\" \"$@\""])
        .arg(server.get_program())
        .args(server.get_args())
        .env_clear()
        .envs(
            server
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .current_dir(binary.working_dir())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    assert!(line.starts_with("listening"), "{line}");
    child
}

/// Returns the soft and the hard limit of core dumps.
fn core_limits(server: &Child) -> [String; 2] {
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.id())).unwrap();
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max core file size"));
    let mut words = line.unwrap().split_whitespace().map(ToOwned::to_owned);
    [words.next().unwrap(), words.next().unwrap()]
}

#[test]
fn f30_a_crash_leaves_no_core() {
    let mut binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    let mut server = serve_with_cores(&binary);
    assert_eq!(core_limits(&server), ["0", "0"]);
    let killed = Command::new("sh")
        .args(["-c", "kill -ABRT \"$0\"", &server.id().to_string()])
        .status();
    assert!(killed.unwrap().success());
    assert_eq!(server.wait().unwrap().code(), None);
    let files = fs::read_dir(binary.working_dir()).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let cores: Vec<_> = names.filter(|name| name.starts_with("core")).collect();
    assert!(cores.is_empty(), "{cores:?}");

    binary.set_variable("GUESTPASS_CORE_DUMPS", "true");
    let mut server = serve_with_cores(&binary);
    assert_eq!(core_limits(&server), ["unlimited", "unlimited"]);
    server.kill().unwrap();
    server.wait().unwrap();
}
