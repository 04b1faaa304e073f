//! The files of an embedded store and its keys.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use crate::support::SHOP;
use crate::support::binary::Binary;
use crate::support::shim;

fn mode(file: &Path) -> u32 {
    fs::metadata(file).unwrap().permissions().mode() & 0o777
}

fn set_mode(file: &Path, mode: u32) {
    fs::set_permissions(file, Permissions::from_mode(mode)).unwrap();
}

fn names(directory: &Path) -> Vec<String> {
    let files = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = files
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

const FILES: [&str; 4] = [
    "guestpass.db",
    "guestpass.journal",
    "guestpass.lock",
    "master.key",
];

#[test]
fn f28_a_new_master_key_needs_no_hard_links() {
    let mut binary = Binary::new();
    let library = shim(binary.working_dir(), include_str!("link_shim.c"));
    binary.set_variable("LD_PRELOAD", library.to_str().unwrap());
    for _ in 0..2 {
        assert!(binary.serve().stop().success());
        assert_eq!(names(&binary.data_dir()), FILES);
        assert_eq!(mode(&binary.data_dir().join("master.key")), 0o600);
    }
}

#[test]
fn f29_a_new_master_key_has_nobody_elses_mode_or_place() {
    let binary = Binary::new();
    let data = binary.data_dir();
    fs::create_dir(&data).unwrap();
    set_mode(&data, 0o755);
    // Names that somebody has prepared.
    for name in ["master.part", "master.key.part"] {
        fs::write(data.join(name), "prepared").unwrap();
        set_mode(&data.join(name), 0o666);
    }
    assert!(binary.serve().stop().success());
    assert_eq!(mode(&data.join("master.key")), 0o600);
    assert_eq!(
        fs::read_to_string(data.join("master.part")).unwrap(),
        "prepared"
    );

    // A link that leads elsewhere is not followed, and not replaced.
    let binary = Binary::new();
    let data = binary.data_dir();
    fs::create_dir(&data).unwrap();
    let elsewhere = binary.working_dir().join("elsewhere");
    symlink(&elsewhere, data.join("master.key")).unwrap();
    let problem = binary.failure(&["serve"]);
    assert!(problem.contains("master.key: File exists"), "{problem}");
    assert!(!elsewhere.exists());
}

#[test]
fn f29_files_with_secrets_that_others_can_read_are_warned_of() {
    let mut binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    assert!(binary.serve().stop().success());
    assert!(
        !binary.serve().log().contains("WARN guestpass::cli"),
        "{}",
        binary.serve().log()
    );
    let data = binary.data_dir();
    let password = binary.working_dir().join("password");
    fs::write(&password, "x").unwrap();
    binary.set_variable(
        "GUESTPASS_POSTGRES__PASSWORD_FILE",
        password.to_str().unwrap(),
    );
    let configuration = binary.working_dir().join("guestpass.toml");
    fs::write(&configuration, "").unwrap();
    binary.set_variable("GUESTPASS_CONFIG", configuration.to_str().unwrap());
    let exposed = [
        (data.join("guestpass.db"), 0o644, "chmod 600"),
        (data.join("master.key"), 0o640, "chmod 600"),
        (data.join("guestpass.journal"), 0o666, "chmod 600"),
        (password.clone(), 0o644, "chmod o="),
        (data.join("guestpass.lock"), 0o666, "chmod go-w"),
        (configuration.clone(), 0o646, "chmod o-w"),
        (data.clone(), 0o770, "chmod go-w"),
    ];
    for (path, mode, _) in &exposed {
        set_mode(path, *mode);
    }
    let checked = binary.json(&["config", "check"]);
    let server = binary.serve();
    let log = server.log();
    for (path, _, command) in &exposed {
        let hint = format!("Run: {command} {}", path.display());
        let line = log.lines().find(|line| line.ends_with(&hint));
        assert!(
            line.is_some_and(|line| line.contains(" WARN ")),
            "{hint}: {log}"
        );
        assert!(
            checked["advice"].to_string().contains(&hint),
            "{hint}: {checked}"
        );
    }
    // SQLite makes the files beside the database as that is.
    let database = log.lines().find(|line| line.contains("guestpass.db,"));
    assert!(
        database.is_some_and(|line| line.contains("(-wal, -shm)")),
        "{log}"
    );
    assert!(server.stop().success());
    // Each is over when its command was carried out.
    for (path, _, command) in &exposed {
        let done = std::process::Command::new("sh")
            .args(["-c", &format!("{command} \"$0\""), path.to_str().unwrap()])
            .status();
        assert!(done.unwrap().success());
    }
    let checked = binary.json(&["config", "check"]);
    assert!(
        !checked["advice"].to_string().contains("chmod"),
        "{checked}"
    );
}
