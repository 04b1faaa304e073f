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
        ("GUESTPASS_EVENTS__URL", "https://shop.example/real"),
        ("GUESTPASS_EVENTS__SECRET_FILE", "real.secret"),
    ] {
        binary.set_variable(name, value);
    }
    // Twice, for the second finds what the first has left.
    for _ in 0..2 {
        let ended = run(binary.bare_command(&["quickstart", "--once", "--json"]));
        let steps = ended.json();
        let steps = steps.as_array().unwrap();
        let told: Vec<_> = steps
            .iter()
            .map(|step| {
                let text = |member: &str| step[member].as_str().unwrap();
                (
                    text("method"),
                    text("path"),
                    step["status"].as_i64().unwrap(),
                )
            })
            .collect();
        let expected = [
            ("GET", "/oauth/authorize", 200),
            ("POST", "/oauth/token", 200),
            ("POST", "/oauth/token", 200),
            ("POST", "/oauth/token", 200),
            ("POST", "/oauth/link", 200),
            ("POST", "/oauth/token", 200),
            ("POST", "/events", 200),
            ("DELETE", "/oauth/profile", 204),
            ("POST", "/oauth/token", 400),
        ];
        assert_eq!(told, expected);
        let customers: Vec<_> = (1..6)
            .map(|step| steps[step]["claims"].get("customer").cloned())
            .collect();
        assert_eq!(customers, [None, None, None, None, Some(json!("c-4711"))]);
        let event = &steps[6]["body"];
        assert_eq!(
            (&event["type"], &event["data"]["sub"]),
            (&json!("guest.linked"), &steps[1]["claims"]["sub"])
        );
        assert!(!ended.stdout.contains("gpk_"), "{}", ended.stdout);
        for step in [1, 2, 3, 5] {
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
        "5. The guest logs in",
        "x-api-key: the API key of the back end",
        "6. Refresh: now the access token says so",
        "7. An event",
        "webhook-signature",
        "guest.linked",
        "8. The guest asks to be forgotten",
        "9. Refresh: nobody is there any more",
        "\"subn\"",
    ] {
        assert!(ended.stdout.contains(part), "{part}: {}", ended.stdout);
    }
    assert_eq!(ended.stderr, "");
}
