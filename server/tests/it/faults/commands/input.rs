//! Files that arguments and settings name, and that are something else.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use crate::support::SHOP;
use crate::support::binary::{Binary, Ended, run};

const CSV: &str = "sub,subn,created_at\n7,919108f7-52d1-4320-9bac-f847db4148a8,1700000000000\n";

fn imported(ended: &Ended) {
    assert_eq!(ended.json()["imported"], 1, "{ended:?}");
}

#[test]
fn f20_a_stream_is_imported_like_a_file() {
    let import = ["--json", "profile", "import", "-", "--client", SHOP];
    // A pipe.
    let binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    drop(binary.serve());
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(CSV.as_bytes()).unwrap();
    drop(writer);
    let mut command = binary.command(&import);
    command.stdin(reader);
    imported(&run(command));

    // A file as standard input, and a name of that.
    for name in ["-", "/dev/stdin"] {
        let binary = Binary::new();
        binary.json(&["client", "add", SHOP]);
        drop(binary.serve());
        let file = binary.working_dir().join("guests.csv");
        fs::write(&file, CSV).unwrap();
        let mut command = binary.command(&["--json", "profile", "import", name, "--client", SHOP]);
        command.stdin(File::open(&file).unwrap());
        imported(&run(command));
    }

    // A named pipe, as a shell's <(…) is one.
    let binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    drop(binary.serve());
    let pipe = binary.working_dir().join("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let writing = std::thread::spawn(move || fs::write(pipe, CSV).unwrap());
    imported(&binary.run(&["--json", "profile", "import", "pipe", "--client", SHOP]));
    writing.join().unwrap();
}

#[test]
fn f20_what_cannot_be_read_is_refused_at_once() {
    let binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    for (name, problem) in [
        (".", ".: it is a directory"),
        ("/dev/zero", "/dev/zero: it is a device"),
        ("/dev/null", "/dev/null: it is a device"),
        ("absent.csv", "absent.csv: it can't be read: No such file"),
    ] {
        let said = binary.failure(&["profile", "import", name, "--client", SHOP]);
        assert!(said.contains(problem), "{name}: {said}");
    }
    for (stdin, problem) in [
        (File::open("/dev/ptmx"), "standard input: it is a terminal"),
        (File::open("/"), "standard input: it is a directory"),
        (File::open("/dev/null"), "standard input: it is a device"),
    ] {
        let mut command = binary.command(&["profile", "import", "-", "--client", SHOP]);
        command.stdin(stdin.unwrap());
        let ended = run(command);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains(problem), "{problem}: {ended:?}");
    }
}

#[test]
fn f20_settings_name_small_files() {
    for (variable, value, problem) in [
        ("CONFIG", "/", "the configuration file /: it is a directory"),
        ("CONFIG", "/dev/zero", "it is a device, not a file"),
        ("CONFIG", "pipe", "it is a pipe that nobody writes to"),
        ("CONFIG", "socket", "it is a socket, not a file"),
        ("CONFIG", "link", "it is a device, not a file"),
        ("TLS__CERTIFICATE_FILE", "pipe", "it is a pipe that nobody"),
        (
            "TLS__CERTIFICATE_FILE",
            "socket",
            "it is a socket, not a file",
        ),
        (
            "POSTGRES__PASSWORD_FILE",
            "pipe",
            "it is a pipe that nobody",
        ),
        (
            "POSTGRES__PASSWORD_FILE",
            "link",
            "it is a device, not a file",
        ),
        ("POSTGRES__PASSWORD_FILE", "/", "it is a directory"),
        ("POSTGRES__PASSWORD_FILE", "/dev/zero", "it is a device"),
        (
            "MASTER_KEY_FILE",
            "/",
            "the master key /: it is a directory",
        ),
        ("MASTER_KEY_FILE", "/dev/zero", "it is a device"),
        ("MASTER_KEY_FILE", "socket", "it is a socket"),
        ("DATA_DIR", "socket", "it is a socket, not a directory"),
        ("DATA_DIR", "link", "it is a device, not a directory"),
    ] {
        let mut binary = Binary::new();
        binary.json(&["client", "add", SHOP]);
        let _socket = make_odd_files(&binary);
        if variable == "TLS__CERTIFICATE_FILE" {
            binary.set_variable("GUESTPASS_TLS__KEY_FILE", "key.pem");
        }
        binary.set_variable(&format!("GUESTPASS_{variable}"), value);
        let mut command = match variable {
            "DATA_DIR" => binary.bare_command(&["serve"]),
            _ => binary.command(&["serve"]),
        };
        command.env("GUESTPASS_LISTEN", "127.0.0.1:0");
        let ended = run(command);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let said = ended.stderr;
        assert!(said.contains(problem), "{variable}={value}: {said}");
    }
}

/// Makes a `pipe` that nobody writes to, a `socket` and a `link` to a device.
fn make_odd_files(binary: &Binary) -> UnixListener {
    let at = |name| binary.working_dir().join(name);
    let made = Command::new("mkfifo").arg(at("pipe")).status().unwrap();
    assert!(made.success());
    symlink("/dev/full", at("link")).unwrap();
    UnixListener::bind(at("socket")).unwrap()
}

mod sqlite {
    use super::*;

    #[test]
    fn f20_a_database_is_a_file() {
        let mut binary = Binary::new();
        let _socket = make_odd_files(&binary);
        fs::create_dir(binary.working_dir().join("directory")).unwrap();
        let names = || {
            let files = fs::read_dir(binary.working_dir()).unwrap();
            let mut names: Vec<_> = files.map(|file| file.unwrap().file_name()).collect();
            names.sort();
            names
        };
        let before = names();
        for (path, problem) in [
            ("pipe", "it is a pipe, not a file"),
            ("socket", "it is a socket, not a file"),
            (
                "link",
                "the database, /dev/full: it is a device, not a file",
            ),
            ("directory", "it is a directory, not a file"),
            ("directory/", "that is a directory"),
            (".", "it is a directory, not a file"),
        ] {
            for args in [
                &["db", "migrate"][..],
                &["db", "check"],
                &["serve"],
                &["config", "check"],
                &["client", "add", SHOP],
            ] {
                let mut command = binary.bare_command(args);
                command.env("GUESTPASS_DATABASE", format!("sqlite:{path}"));
                let ended = run(command);
                assert_eq!(ended.code, Some(1), "{ended:?}");
                assert!(ended.stderr.contains(problem), "{path}: {ended:?}");
            }
        }
        assert_eq!(before, names());
        assert!(!fs::exists("/dev/full.lock").unwrap());

        // Nor is what SQLite would find beside it anything else.
        binary.json(&["client", "add", SHOP]);
        let log = binary.data_dir().join("guestpass.db-wal");
        let made = Command::new("mkfifo").arg(&log).status().unwrap();
        assert!(made.success());
        binary.set_variable("GUESTPASS_LISTEN", "127.0.0.1:0");
        for args in [&["client", "list"][..], &["serve"]] {
            let problem = binary.failure(args);
            let hint = format!("{}: it is a pipe", log.display());
            assert!(problem.contains(&hint), "{problem}");
        }
    }
}

#[test]
fn f20_a_token_is_read_from_what_holds_one() {
    let binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    drop(binary.serve());
    for (stdin, problem) in [
        ("/dev/null", "standard input holds no token: it is empty"),
        (
            "/dev/zero",
            "standard input holds no token: it has more than 64 KiB",
        ),
        ("/", "standard input holds no token: Is a directory"),
    ] {
        let mut command = binary.command(&["explain", "--token"]);
        command.stdin(Stdio::from(File::open(stdin).unwrap()));
        let ended = run(command);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains(problem), "{stdin}: {ended:?}");
    }
}
