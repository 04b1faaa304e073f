//! `guestpass quickstart`: a guest's life, told.

use serde_json::json;

use crate::support::binary::{Binary, run};

#[test]
fn a_guest_lives_in_an_installation_of_its_own() {
    let mut binary = Binary::new();
    // Settings that an operator may have made for the real installation.
    for (name, value) in [
        ("GUESTPASS_LISTEN", "127.0.0.1:0"),
        ("GUESTPASS_DATABASE", "sqlite:real.db"),
        ("GUESTPASS_MASTER_KEY", "not a key"),
        ("GUESTPASS_BASE_PATHS", "/real"),
        ("GUESTPASS_ISSUER", "https://id.example"),
        ("GUESTPASS_TLS__CERTIFICATE_FILE", "real.pem"),
        ("GUESTPASS_TLS__KEY_FILE", "real.key"),
    ] {
        binary.set_variable(name, value);
    }
    // Twice, for the second finds what the first has left.
    for _ in 0..2 {
        let ended = run(binary.bare_command(&["quickstart", "--once", "--json"]));
        let steps = ended.json();
        let told = ["method", "path", "status"].map(|member| {
            let steps = steps.as_array().unwrap().iter();
            steps.map(|step| step[member].clone()).collect::<Vec<_>>()
        });
        assert_eq!(
            json!(told),
            json!([
                ["GET", "POST", "POST", "POST"],
                [
                    "/oauth/authorize",
                    "/oauth/token",
                    "/oauth/token",
                    "/oauth/token"
                ],
                [200, 200, 200, 200],
            ])
        );
        for step in [1, 2, 3] {
            assert_eq!(steps[step]["claims"]["sub"], steps[1]["claims"]["sub"]);
        }
    }
    assert!(
        binary
            .working_dir()
            .join("guestpass-quickstart/guestpass.db")
            .exists()
    );
    assert!(!binary.working_dir().join("real.db").exists());
}

#[test]
fn for_people_it_is_a_story() {
    let mut binary = Binary::new();
    binary.set_variable("GUESTPASS_LISTEN", "127.0.0.1:0");
    let ended = run(binary.bare_command(&["quickstart", "--once"]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for part in [
        "1. Authorize",
        "2. Exchange",
        "3. Refresh",
        "4. Refresh again",
        "\"subn\"",
    ] {
        assert!(ended.stdout.contains(part), "{part}: {}", ended.stdout);
    }
    assert_eq!(ended.stderr, "");
}
