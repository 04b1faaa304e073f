//! Tests what is printed, and what becomes of it when nobody can read it.

use std::fs::{self, File};
use std::io::pipe;
use std::process::{Command, Stdio};

use crate::support::binary::{Binary, Ended};
use crate::support::{SHOP, refresh};

/// A standard output or error that takes nothing.
enum Broken {
    /// `/dev/full`: each write finds the disk full.
    Full,
    /// A pipe whose reader has gone.
    Closed,
    /// A descriptor that is open for reading only.
    ReadOnly,
}

impl Broken {
    fn open(&self) -> Stdio {
        match self {
            Self::Full => File::options()
                .write(true)
                .open("/dev/full")
                .unwrap()
                .into(),
            Self::Closed => pipe().unwrap().1.into(),
            Self::ReadOnly => File::open("/dev/null").unwrap().into(),
        }
    }
}

/// Runs a command to its end. What it says to standard error is kept in a file, which takes any amount.
fn run(binary: &Binary, mut command: Command, stdout: Stdio) -> Ended {
    let said = binary.working_dir().join("said");
    let status = command
        .stdout(stdout)
        .stderr(File::create(&said).unwrap())
        .status()
        .unwrap();
    Ended {
        code: status.code(),
        stdout: String::new(),
        stderr: fs::read_to_string(said).unwrap(),
    }
}

/// An installation with a client, a guest and a refused request, and commands that print something of each kind.
fn installation() -> (Binary, Vec<Vec<String>>) {
    let binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    let server = binary.serve();
    let sub = server.guest().sub().to_owned();
    let refused = server.send(&refresh("made up"));
    let refused = refused.header("x-request-id").unwrap().to_owned();
    drop(server);
    let commands = [
        "client list",
        "client show shop",
        "client set shop --access-ttl 1h",
        "client disable shop",
        "client enable shop",
        "config show",
        "config check",
        "key list",
        "key export",
        "key rotate --force",
        &format!("profile show {sub}"),
        &format!("profile export {sub}"),
        "profile export",
        "db check",
        "db migrate",
        &format!("explain {refused}"),
        "--help",
        "client --help",
        "help client add",
        "--version",
    ];
    let words = |command: &str| command.split(' ').map(ToOwned::to_owned).collect();
    (binary, commands.into_iter().map(words).collect())
}

fn words(command: &[String]) -> Vec<&str> {
    command.iter().map(String::as_str).collect()
}

#[test]
fn f18_what_cannot_be_printed_is_an_error() {
    let (binary, commands) = installation();
    for command in &commands {
        for flags in [&[][..], &["--json"]] {
            let args = [flags, &words(command)].concat();
            for (broken, reason) in [
                (Broken::Full, "standard output: No space left on device"),
                (Broken::ReadOnly, "standard output: Bad file descriptor"),
            ] {
                let ended = run(&binary, binary.command(&args), broken.open());
                assert_eq!(ended.code, Some(1), "{args:?}: {ended:?}");
                let last = ended.stderr.lines().last().unwrap();
                assert!(
                    last.starts_with("guestpass: ") && last.contains(reason),
                    "{args:?}: {ended:?}"
                );
            }
        }
    }
    let server = binary.command(&["serve", "--listen", "127.0.0.1:0"]);
    let ended = run(&binary, server, Broken::Full.open());
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let server = binary.bare_command(&["quickstart", "--once"]);
    let ended = run(&binary, server, Broken::Full.open());
    assert_eq!(ended.code, Some(1), "{ended:?}");
}

#[test]
fn f18_a_reader_that_has_gone_is_no_error() {
    let (binary, commands) = installation();
    for command in &commands {
        for flags in [&[][..], &["--json"]] {
            let args = [flags, &words(command)].concat();
            let ended = run(&binary, binary.command(&args), Broken::Closed.open());
            assert_eq!(ended.code, Some(0), "{args:?}: {ended:?}");
            let is_quiet = ended.stderr.is_empty() || ended.stderr.contains("HS256 secrets");
            assert!(is_quiet, "{args:?}: {ended:?}");
        }
    }
}

#[test]
fn f18_no_api_key_is_kept_that_nobody_saw() {
    let binary = Binary::new();
    binary.json(&["client", "add", "back-end", "--confidential"]);
    for flags in [&[][..], &["--json"]] {
        let add = [flags, &["client", "add", "other", "--confidential"]].concat();
        let ended = run(&binary, binary.command(&add), Broken::Full.open());
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains("nothing was added"), "{ended:?}");
        binary.failure(&["client", "show", "other"]);

        let add_key = [flags, &["client", "key", "add", "back-end"]].concat();
        let ended = run(&binary, binary.command(&add_key), Broken::Full.open());
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let keys = binary.json(&["client", "key", "list", "back-end"]);
        let keys = keys.as_array().unwrap().iter();
        let active = keys.filter(|key| key["state"] == "active");
        assert_eq!(active.count(), 1);
    }
    // Somebody may have read it before going away.
    let add = ["client", "add", "other", "--confidential"];
    let ended = run(&binary, binary.command(&add), Broken::Closed.open());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let replace = "guestpass client key add other, then guestpass client key revoke other gpk_";
    assert!(ended.stderr.contains(replace), "{ended:?}");
}

/// Enough that progress is reported several times.
const GUESTS: usize = 3_000;

#[test]
fn f19_a_standard_error_that_nobody_reads_changes_nothing() {
    for broken in [Broken::Full, Broken::Closed, Broken::ReadOnly] {
        let binary = Binary::new();
        let added = binary
            .command(&["client", "add", SHOP])
            .stdout(Stdio::null())
            .stderr(broken.open())
            .status();
        assert_eq!(added.unwrap().code(), Some(0));
        drop(binary.serve());
        let mut csv = "sub,subn,created_at\n".to_owned();
        for number in 1..=GUESTS {
            csv += &format!("{number},00000000-0000-4000-8000-{number:012},1700000000000\n");
        }
        fs::write(binary.working_dir().join("guests.csv"), csv).unwrap();
        for (args, code) in [
            (
                &["profile", "import", "guests.csv", "--client", SHOP][..],
                0,
            ),
            (&["client", "show", "nobody"], 1),
            (&["client", "shwo"], 2),
            (&["profile", "import", "guests.csv"], 1),
        ] {
            let mut command = binary.command(args);
            command.stdout(Stdio::null()).stderr(broken.open());
            assert_eq!(command.status().unwrap().code(), Some(code), "{args:?}");
        }
        let exported = binary.working_dir().join("exported.csv");
        let mut command = binary.command(&["profile", "export"]);
        command
            .stdout(File::create(&exported).unwrap())
            .stderr(broken.open());
        assert_eq!(command.status().unwrap().code(), Some(0));
        let lines = fs::read_to_string(exported).unwrap().lines().count();
        assert_eq!(lines, GUESTS + 1);
    }
}

#[test]
fn f23_what_is_not_ours_is_escaped() {
    let evil = "\u{1b}[31m\u{7f}\u{9b}1m\u{202e}\u{7}";
    let mut binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    let guest = "1,58cc4e63-0a5b-4af2-a233-5e776cd1473f,2026-01-31T12:00:00Z";
    let csv = format!("sub,subn,created_at,client_id\n{guest},\"{evil}shop\n{guest},shop\"\n");
    let directory = binary.working_dir().to_owned();
    fs::write(directory.join("e.csv"), csv).unwrap();
    fs::write(
        directory.join("e.toml"),
        format!("\"{}\" = 1", toml_escapes(evil)),
    )
    .unwrap();
    for args in [
        &["profile", "import", "e.csv"][..],
        &["profile", "import", evil, "--client", SHOP],
        &["--config", "e.toml", "client", "list"],
        &["--config", evil, "client", "list"],
        &["--data-dir", evil, "client", "list"],
        &["client", "show", evil],
        &["client", "add", "x", "--origin", evil],
        &["client", "key", "revoke", SHOP, evil],
        &["explain", evil],
        &[evil],
        &["key", "remove", evil],
        &["db", "copy", "--to", evil],
    ] {
        assert_harmless(&binary.run(args));
    }
    let problem = binary.failure(&["profile", "import", "e.csv"]);
    assert!(
        problem.contains(r"there is no client \x1b[31m\x7f\u{9b}1m\u{202e}\x07shop\n1,58"),
        "{problem}"
    );

    binary.set_variable("GUESTPASS_NODE", evil);
    for args in [&["config", "show"][..], &["--json", "config", "show"]] {
        let shown = binary.run(args);
        assert_eq!(shown.code, Some(0), "{shown:?}");
        assert_harmless(&shown);
    }
    for variable in [
        "LISTEN",
        "ISSUER",
        "TOKENS__GRACE",
        "LOG__LEVEL",
        "DATABASE",
        "TLS__KEY_FILE",
    ] {
        let mut binary = Binary::new();
        binary.set_variable(&format!("GUESTPASS_{variable}"), evil);
        let ended = crate::support::binary::run(binary.bare_command(&["config", "check"]));
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert_harmless(&ended);
    }
}

/// Whoever can choose a name must not be able to write a line of the program's.
#[test]
fn f23_what_is_not_ours_begins_no_line() {
    let evil = "x\nforged\r\n\tforged: \u{2028}";
    let mut binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    let directory = binary.working_dir().to_owned();
    let data = binary.data_dir().display().to_string();
    let guest = "1,58cc4e63-0a5b-4af2-a233-5e776cd1473f,2026-01-31T12:00:00Z";
    let csv = format!("sub,subn,created_at,client_id\n{guest},\"{evil}\"\n");
    fs::write(directory.join(format!("{evil}.csv")), csv).unwrap();
    let key = toml_escapes(evil);
    for (name, toml) in [
        ("unknown.toml", format!("\"{key}\" = 1")),
        ("listen.toml", format!("listen = \"{key}\"")),
        ("broken.toml", "listen = \"x\ny\"".to_owned()),
    ] {
        fs::write(directory.join(name), toml).unwrap();
    }
    let csv = format!("{evil}.csv");
    let flag = format!("--{evil}=x");
    let with_value = format!("--listen={evil}");
    let database = format!("sqlite:{evil}.db");
    binary.set_variable("GUESTPASS_MASTER_KEY_FILE", &format!("{evil}.key"));
    let commands = [
        &["profile", "import", &csv][..],
        &["profile", "import", evil, "--client", SHOP],
        &["client", "show", evil],
        &["client", "add", evil],
        &["client", "add", "x", "--origin", evil],
        &["client", "key", "revoke", SHOP, evil],
        &["explain", evil],
        &["key", "remove", evil],
        &["db", "copy", "--to", evil],
        &["config", "show"],
        &["config", "check"],
        &[evil],
        &[&flag, "serve"],
        &["serve", &with_value],
    ];
    for args in commands {
        assert_one_voice(&binary.run(args));
        assert_one_voice(&binary.run(&[&["--json"], args].concat()));
    }
    for args in [
        &["--data-dir", evil, "client", "list"][..],
        &["--data-dir", evil, "config", "check"],
        &["--data-dir", evil, "db", "migrate", "--dry-run"],
        &["--data-dir", &data, "--config", evil, "client", "list"],
        &["--data-dir", &data, "--config", "unknown.toml", "serve"],
        &["--data-dir", &data, "--config", "listen.toml", "serve"],
        &["--data-dir", &data, "--config", "broken.toml", "serve"],
    ] {
        assert_one_voice(&crate::support::binary::run(binary.bare_command(args)));
    }
    binary.set_variable("GUESTPASS_NODE", evil);
    binary.set_variable("GUESTPASS_JOURNAL", &format!("{evil}/journal"));
    assert_one_voice(&binary.run(&["serve"]));
    binary.set_variable("GUESTPASS_DATABASE", &database);
    for args in [
        &["config", "check"][..],
        &["client", "list"],
        &["db", "migrate"],
        &["db", "check"],
    ] {
        assert_one_voice(&binary.run(args));
    }
}

/// Checks that no line of what was printed begins with text that isn't the program's.
fn assert_one_voice(ended: &Ended) {
    assert_harmless(ended);
    let lines = ended.stdout.lines().chain(ended.stderr.lines());
    let forged = |line: &str| line.trim_start().starts_with("forged") || line.contains('\u{2028}');
    assert!(!lines.into_iter().any(forged), "{ended:?}");
}

/// Writes text as it may stand between the quotes of TOML.
fn toml_escapes(text: &str) -> String {
    text.chars()
        .map(|c| format!("\\u{:04X}", u32::from(c)))
        .collect()
}

/// Checks that all that was printed can be shown on a terminal.
fn assert_harmless(ended: &Ended) {
    let controls = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
    assert!(
        !ended.stdout.contains(controls) && !ended.stderr.contains(controls),
        "{ended:?}"
    );
}
