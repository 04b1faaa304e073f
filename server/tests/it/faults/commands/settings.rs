//! Texts of the configuration that become a URL, a route or a file name.

use crate::support::SHOP;
use crate::support::binary::{Binary, run};

#[test]
fn f22_an_issuer_that_cannot_be_served_is_refused() {
    for (issuer, hint) in [
        ("https://id.example/:t", "letters, digits and -._~"),
        ("https://id.example/{t}", "letters, digits and -._~"),
        ("https://id.example/*t", "letters, digits and -._~"),
        ("https://id.example/a/../b", "letters, digits and -._~"),
        ("https://id.example:99999", "port"),
        ("https://id.example:0", "port"),
        ("https://id.example/", "leave the last slash out"),
        ("https://ID.example", "https://id.example"),
    ] {
        let mut binary = Binary::new();
        binary.set_variable("GUESTPASS_ISSUER", issuer);
        let mut said = Vec::new();
        for command in [
            &["config", "check"][..],
            &["serve", "--listen", "127.0.0.1:0"],
        ] {
            let ended = run(binary.bare_command(command));
            assert_eq!(
                (ended.code, ended.stdout.as_str()),
                (Some(1), ""),
                "{ended:?}"
            );
            said.push(ended.stderr);
        }
        assert_eq!(said[0], said[1]);
        let names = format!("guestpass: issuer = {issuer} (environment GUESTPASS_ISSUER): ");
        assert!(
            said[0].starts_with(&names) && said[0].contains(hint),
            "{said:?}"
        );
    }
}

#[test]
fn f22_no_accepted_text_makes_the_router_panic() {
    for (issuer, base_paths) in [
        ("https://id.example/oauth/authorize", "/,/api"),
        ("https://id.example/shop/v1.2_~-x", "/shop/v1.2_~-x,/"),
        ("https://id.example:8443/livez", "/livez,/readyz,/oauth"),
        ("https://[2001:db8::1]:8443", "/a/b/c/d,"),
    ] {
        let mut binary = Binary::new();
        binary.json(&["client", "add", SHOP]);
        binary.set_variable("GUESTPASS_ISSUER", issuer);
        binary.set_variable("GUESTPASS_BASE_PATHS", base_paths);
        assert!(binary.serve().stop().success(), "{issuer} {base_paths}");
    }
    for base_paths in [
        "/.well-known",
        "/.well-known/oauth-authorization-server",
        "/:x",
        "/{x}",
        "/a/../b",
    ] {
        let mut binary = Binary::new();
        binary.set_variable("GUESTPASS_BASE_PATHS", base_paths);
        let ended = run(binary.bare_command(&["config", "check"]));
        let names = format!("guestpass: base_paths = {base_paths} (");
        assert!(ended.stderr.starts_with(&names), "{ended:?}");
        assert!(ended.stderr.contains("for example /"), "{ended:?}");
    }
}

#[test]
fn f22_no_setting_holds_what_no_name_has() {
    let mut binary = Binary::new();
    let file = binary.working_dir().join("guestpass.toml");
    std::fs::write(&file, "node = \"a\\u0000b\"").unwrap();
    binary.set_variable("GUESTPASS_CONFIG", file.to_str().unwrap());
    let ended = run(binary.bare_command(&["config", "check"]));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.stderr.starts_with("guestpass: node (file "),
        "{ended:?}"
    );
}

#[test]
fn f25_the_query_of_a_database_url_is_decoded_once() {
    for (url, problem) in [
        (
            "postgres://u@db.example/x?sslrootcert=%2Fetc%2Fabsent%20%2541.pem",
            "sslrootcert = /etc/absent %41.pem: it can't be read: No such file",
        ),
        (
            "postgres://u@db.example/x?ssl%72ootcert=%2Fetc%2Fabsent.pem",
            "sslrootcert = /etc/absent.pem: ",
        ),
        ("postgres://u@db.example/x?sslmode=pre%66er", "verify-full"),
        (
            "postgres://u@db.example/x?pass%77ord=hush",
            "before the host",
        ),
        (
            "postgres://u@db.example/x?target_session_attrs=any%2Dreplica",
            "invalid value",
        ),
        ("postgres://u@db.example/x?sslrootcert=%2", "hexadecimal"),
        ("postgres://u@db.example/x?sslrootcert=%00", "hexadecimal"),
        (
            "postgres://u@db.example/x?sslrotcert=x",
            "sslrootcert, user",
        ),
    ] {
        let mut binary = Binary::new();
        binary.set_variable("GUESTPASS_DATABASE", url);
        let ended = run(binary.bare_command(&["db", "check"]));
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains(problem), "{url}: {ended:?}");
    }
}
