//! The command line, through the real binary: what every command prints for scripts, and how it exits.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::binary::{Binary, run};
use crate::support::{SHOP, Tokens, refresh};

mod clients;
mod configuration;
mod copy;
mod events;
mod explain;
mod guests;
mod import;
mod keys;
mod quickstart;
mod serve;
mod sqlite;

const CLIENT: &str = "audience_restricted claims client_id confidential cookie_domain cookies created_at disabled key_ids may on_ended origins \
                      page_token policy[name origin value] resume_with_jwt ticket_to typ unknown_choices";
const KEY: &str = "algorithm created_at current_at kid needed_until retiring_at state use";
const GUEST: &str = "attributes client_id created_at customer \
                     grants[advanced_at client_id expires_at generation issued_at sid state] linked_at seen_at sub subn";

#[test]
fn every_command_prints_json_for_scripts() {
    let binary = Binary::new();
    let (guest, key, refused) = prepare(&binary);
    // Another takes its place below.
    let retiring = current_key(&binary);
    let rows = [
        ("db migrate", "", "dry_run from steps to"),
        ("db check", "", "grants ok problems profiles"),
        ("client add", "phone", "api_key client_id"),
        ("client set", "phone --origin https://phone.example", CLIENT),
        ("client show", "phone", CLIENT),
        ("client disable", "phone", "client_id disabled"),
        ("client enable", "phone", "client_id disabled"),
        (
            "client key add",
            "back-end",
            "api_key client_id expires_at key_id",
        ),
        (
            "client key revoke",
            &format!("back-end {key}"),
            "client_id key_id",
        ),
        (
            "client key list",
            "back-end",
            "[created_at expires_at key_id revoked_at state]",
        ),
        ("client remove", "back-end", "client_id"),
        ("client list", "", &format!("[{CLIENT}]")),
        ("profile show", guest.sub(), GUEST),
        ("profile export", guest.sub(), GUEST),
        (
            "profile import",
            "guests.csv --client phone",
            "erased imported inexact linked present unlinked",
        ),
        ("customer show", "c-4711", "customer guests"),
        ("customer export", "c-4711", "customer guests"),
        ("customer unlink", "c-4711", "customer unlinked"),
        ("customer erase", "c-4711", "customer erased"),
        ("profile erase", guest.sub(), "sub"),
        ("events retry", "", "retried"),
        ("events secret", "", "secret"),
        ("key list", "", &format!("[{KEY}]")),
        ("key rotate", "--force", &format!("current{KEY} next{KEY}")),
        ("key remove", &retiring, "guests kid"),
        ("key export", "", "keys[alg k kid kty use]"),
        (
            "explain",
            &refused,
            "answered help node refusal request time",
        ),
        ("clock show", "", "clock last_served_at trusted"),
        ("clock accept", "", "clock"),
        ("db set-issuer", "https://id.example", "before issuer"),
        ("config show", "", "[about name origin value]"),
        ("config check", "", "advice[client_id text] errors ok"),
    ];
    let mut seen = BTreeSet::from(
        ["serve", "quickstart", "db copy", "events test", "retention"].map(ToOwned::to_owned),
    );
    for (command, args, expected) in rows {
        let words = command
            .split(' ')
            .chain(args.split_whitespace())
            .chain(["--json"]);
        let ended = binary.run(&words.collect::<Vec<_>>());
        assert_eq!(members(&ended.json()), expected, "{command}");
        assert_eq!(
            (ended.stdout.lines().count(), ended.stderr.as_str()),
            (1, ""),
            "{ended:?}"
        );
        seen.insert(command.to_owned());
    }
    assert_eq!(
        seen,
        commands(&binary, ""),
        "every command of --help has its row"
    );
}

#[test]
fn a_server_prints_json_for_scripts() {
    let binary = Binary::new();
    let announced = binary.serve_with(&["--json"]).announced.clone();
    assert_eq!(
        members(&serde_json::from_str(&announced).unwrap()),
        "issuer listening"
    );
}

/// A guest, whose client and server are gone again, the name of the key of a confidential client, and the id of a request
/// that was refused.
fn prepare(binary: &Binary) -> (Tokens, String, String) {
    binary.json(&["client", "add", SHOP]);
    let csv = "sub,subn,created_at\n7,919108f7-52d1-4320-9bac-f847db4148a8,2026-01-31T12:00:00Z\n";
    std::fs::write(binary.working_dir().join("guests.csv"), csv).unwrap();
    let server = binary.serve();
    let tokens = server.guest();
    let refused = server.send(&refresh("made up"));
    let refused = refused.header("x-request-id").unwrap().to_owned();
    drop(server);
    binary.json(&["client", "remove", SHOP]);
    let added = binary.json(&["client", "add", "back-end", "--confidential"]);
    let key = added["api_key"].as_str().unwrap()[..12].to_owned();
    (tokens, key, refused)
}

fn current_key(binary: &Binary) -> String {
    let listed = binary.json(&["key", "list"]);
    let mut keys = listed.as_array().unwrap().iter();
    let current = keys.find(|key| key["use"] == "access-token" && key["state"] == "current");
    current.unwrap()["kid"].as_str().unwrap().to_owned()
}

/// The names of an object's members; of a list, those of its first object, in brackets.
fn members(value: &Value) -> String {
    match value {
        Value::Object(object) => {
            let named = object
                .iter()
                .map(|(name, value)| name.clone() + &members(value));
            named.collect::<Vec<_>>().join(" ")
        }
        Value::Array(items) => match items.first() {
            Some(first @ Value::Object(_)) => format!("[{}]", members(first)),
            _ => String::new(),
        },
        _ => String::new(),
    }
}

/// Every command below `parent` that its help names and that has no commands of its own.
fn commands(binary: &Binary, parent: &str) -> BTreeSet<String> {
    let words = parent.split_whitespace().chain(["--help"]);
    let help = binary.run(&words.collect::<Vec<_>>());
    assert_eq!((help.code, help.stderr.as_str()), (Some(0), ""), "{help:?}");
    let lines = help
        .stdout
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1);
    let names = lines.map_while(|line| line.split_whitespace().next());
    let children = names
        .filter(|name| *name != "help")
        .map(|name| format!("{parent} {name}"));
    let all: BTreeSet<String> = children
        .flat_map(|child| commands(binary, child.trim_start()))
        .collect();
    if all.is_empty() {
        BTreeSet::from([parent.to_owned()])
    } else {
        all
    }
}

#[test]
fn a_command_that_fails_exits_with_1_and_says_why() {
    let binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    binary.json(&["client", "add", "back-end", "--confidential"]);
    for (args, hint) in [
        (&["client", "add", SHOP][..], "guestpass client set shop"),
        (
            &["client", "set", "nobody", "--confidential"],
            "guestpass client list",
        ),
        (&["client", "show", "nobody"], "guestpass client list"),
        (&["client", "disable", "nobody"], "guestpass client list"),
        (&["client", "enable", "nobody"], "guestpass client list"),
        (&["client", "remove", "nobody"], "guestpass client list"),
        (
            &["client", "set", SHOP, "--no-origin", "https://a.example"],
            "guestpass client show shop",
        ),
        (&["client", "key", "add", "nobody"], "guestpass client list"),
        (
            &["client", "key", "add", SHOP],
            "guestpass client set shop --confidential",
        ),
        (
            &[
                "client",
                "key",
                "add",
                "back-end",
                "--expires",
                "2001-01-01",
            ],
            "a date to come",
        ),
        (
            &["client", "key", "list", "nobody"],
            "guestpass client list",
        ),
        (
            &["client", "key", "revoke", "back-end", "gpk_x"],
            "guestpass client key list back-end",
        ),
        (&["profile", "show", "94173"], "there is no guest 94173"),
        (&["profile", "erase", "94173"], "there is no guest 94173"),
        (
            &["--config", "absent.toml", "config", "show"],
            "absent.toml",
        ),
    ] {
        for args in [args.to_vec(), [args, &["--json"]].concat()] {
            let problem = binary.failure(&args);
            assert!(problem.starts_with("guestpass: "), "{args:?}: {problem}");
            assert!(
                problem.contains(hint),
                "{args:?} should say {hint}: {problem}"
            );
        }
    }
}

#[test]
fn a_command_that_is_not_understood_exits_with_2() {
    let binary = Binary::new();
    for args in [
        &[][..],
        &["serv"],
        &["client"],
        &["client", "add"],
        &["client", "add", "a b"],
        &["client", "add", "shop", "--origin", "https://shop.example/"],
        &[
            "client",
            "add",
            "shop",
            "--no-origin",
            "https://shop.example",
        ],
        &["client", "add", "shop", "--access-ttl", "1500ms"],
        &["client", "set", "shop", "--access-ttl", "101y"],
        &["client", "set", "shop", "--code-ttl", "11m"],
        &["client", "set", "shop", "--grace", "6m"],
        &["client", "set", "shop", "--grace", "soon"],
        &["client", "set", "shop", "--late-retry", "repeat"],
        &["client", "set", "shop", "--max-unproven", "0"],
        &["client", "set", "shop", "--refresh-idle", "0s"],
        &["client", "set", "shop", "--refresh-max", "101y"],
        &["client", "set", "shop", "--audience", ""],
        &["client", "set", "shop", "--query-params=maybe"],
        &["client", "key"],
        &["client", "key", "add", "shop", "--expires", "tomorrow"],
        &["client", "key", "add", "shop", "--expires", "1969-12-31"],
        &["client", "list", "--verbose"],
        &["profile", "show", "guest"],
        &["profile", "show", "-1"],
        &["serve", "--listen"],
        &["db", "check", "now"],
    ] {
        let ended = run(binary.bare_command(args));
        assert_eq!(
            (ended.code, ended.stdout.as_str()),
            (Some(2), ""),
            "{args:?}: {ended:?}"
        );
        assert!(
            ended.stderr.contains("Usage: guestpass") || ended.stderr.contains("try '--help'"),
            "{args:?}: {ended:?}"
        );
    }
    let files = std::fs::read_dir(binary.working_dir()).unwrap();
    assert_eq!(files.count(), 0);
}

#[test]
fn global_flags_stand_before_or_after_the_command() {
    let binary = Binary::new();
    let added = binary.json(&["client", "add", SHOP]);
    assert_eq!(added, json!({"client_id": SHOP, "api_key": null}));
    let data_dir = binary.data_dir();
    let data_dir = data_dir.to_str().unwrap();
    let expected = binary.json(&["client", "list"]);
    for args in [
        ["--data-dir", data_dir, "--json", "client", "list"],
        ["client", "list", "--json", "--data-dir", data_dir],
        ["--json", "client", "--data-dir", data_dir, "list"],
        ["client", "--json", "list", "--data-dir", data_dir],
    ] {
        assert_eq!(run(binary.bare_command(&args)).json(), expected, "{args:?}");
    }
}

#[test]
fn the_version_is_the_one_of_the_package() {
    let ended = Binary::new().run(&["--version"]);
    let expected = format!("guestpass {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!((ended.code, ended.stdout), (Some(0), expected));
}
