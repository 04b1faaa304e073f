//! `guestpass config`, and what no command accepts.

use serde_json::{Value, json};

use crate::support::binary::Binary;

mod sqlite;

#[test]
fn the_configuration_is_shown_with_its_origins_and_without_its_secrets() {
    const SECRET: &str = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3I=";
    let mut binary = Binary::new();
    let file = binary.working_dir().join("guestpass.toml");
    std::fs::write(&file, "[tokens]\ngrace = \"10s\"\naccess_ttl = \"1h\"").unwrap();
    binary.set_variable("GUESTPASS_CONFIG", file.to_str().unwrap());
    binary.set_variable("GUESTPASS_TOKENS__GRACE", "20s");
    binary.set_variable("GUESTPASS_MASTER_KEY", SECRET);
    let (data_dir, file) = (binary.data_dir(), format!("file {}", file.display()));
    let data_dir = data_dir.to_str().unwrap();

    let shown = binary.json(&["config", "show"]);
    for (name, value, origin) in [
        ("data_dir", data_dir, "command line"),
        ("tokens.grace", "20s", "environment GUESTPASS_TOKENS__GRACE"),
        ("tokens.access_ttl", "1h", file.as_str()),
        ("tokens.code_ttl", "60s", "default"),
        ("master_key", "(secret)", "environment GUESTPASS_MASTER_KEY"),
    ] {
        let setting = shown
            .as_array()
            .unwrap()
            .iter()
            .find(|setting| setting["name"] == name);
        let setting = setting.unwrap_or_else(|| panic!("no {name} in {shown}"));
        assert_eq!(
            (&setting["value"], &setting["origin"]),
            (&json!(value), &json!(origin))
        );
    }
    for args in [["config", "show"], ["config", "check"], ["client", "list"]] {
        for args in [args.to_vec(), [&args[..], &["--json"]].concat()] {
            let said = binary.run(&args);
            assert!(
                !said.stdout.contains(SECRET) && !said.stderr.contains(SECRET),
                "{said:?}"
            );
        }
    }
}
