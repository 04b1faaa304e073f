//! Tests what a running server takes over on SIGHUP.

use std::fs;

use axum::http::StatusCode;

use crate::support::binary::{Binary, Server, eventually, free_address};
use crate::support::{Connection, SHOP, authorize, request};

/// A server with a file of settings.
fn serve(text: &str) -> (Binary, Server) {
    let mut binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    fs::write(binary.working_dir().join("guestpass.toml"), text).unwrap();
    binary.set_variable("GUESTPASS_CONFIG", "guestpass.toml");
    binary.keep_to_limits();
    let server = binary.serve();
    (binary, server)
}

/// Writes other settings, and has them read. Waits until the log says so, in those words.
fn reload(binary: &Binary, server: &Server, text: &str, says: &str) {
    let before = server.log().matches(says).count();
    fs::write(binary.working_dir().join("guestpass.toml"), text).unwrap();
    server.signal("HUP");
    eventually(says, || server.log().matches(says).count() > before);
}

/// Asks for a guest, with a header that names another address.
fn status_for(server: &Server, address: &str) -> StatusCode {
    let asked = authorize().header("x-forwarded-for", address);
    server.send(&asked).status
}

#[test]
fn f56_sighup_takes_over_limits_proxies_and_the_level_of_the_log() {
    const FEW: &str = "[limits]\nmode = \"enforce\"\nguests_per_address = \"1/1h\"\n";
    let (binary, server) = serve(FEW);
    for expected in [StatusCode::OK, StatusCode::TOO_MANY_REQUESTS] {
        assert_eq!(status_for(&server, "192.0.2.1"), expected);
    }
    let read = "the configuration was read again";
    // The same address, which is believed now: another visitor.
    let trusting = format!("trusted_proxies = \"127.0.0.1\"\n{FEW}");
    reload(&binary, &server, &trusting, read);
    assert_eq!(status_for(&server, "192.0.2.1"), StatusCode::OK);
    assert_eq!(
        status_for(&server, "192.0.2.1"),
        StatusCode::TOO_MANY_REQUESTS
    );
    let more = trusting.replace("1/1h", "1000/1h");
    reload(&binary, &server, &more, read);
    for _ in 0..3 {
        assert_eq!(status_for(&server, "192.0.2.1"), StatusCode::OK);
    }
    // A client that has a limit of its own keeps it.
    let of_client = ["client", "set", SHOP, "--guests-per-address", "1/1h"];
    assert_eq!(binary.run(&of_client).code, Some(0));
    eventually("the client's limit holds", || {
        status_for(&server, "192.0.2.3") == StatusCode::TOO_MANY_REQUESTS
    });
    reload(&binary, &server, &more.replace("1000/1h", "999/1h"), read);
    assert_eq!(
        status_for(&server, "192.0.2.3"),
        StatusCode::TOO_MANY_REQUESTS
    );
    reload(&binary, &server, &more.replace("enforce", "off"), read);
    assert_eq!(status_for(&server, "192.0.2.3"), StatusCode::OK);

    // The level, up and down.
    let quiet = format!("{more}[log]\nlevel = \"error\"\n");
    fs::write(binary.working_dir().join("guestpass.toml"), quiet).unwrap();
    server.signal("HUP");
    let lines = || server.log().matches("answered").count();
    let says_no_more = || {
        let before = lines();
        for _ in 0..3 {
            server.send(&request("GET", "/livez"));
        }
        // Later lines would come before this one, which is an error.
        server.signal("HUP");
        lines() == before
    };
    eventually("it logs no request", says_no_more);
    reload(&binary, &server, &more, read);
    server.send(&request("GET", "/livez"));
    eventually("it logs requests again", || {
        server.log().trim_end().contains("answered")
    });
    assert_eq!(server.stop().code(), Some(0));
}

#[test]
fn f56_sighup_takes_a_bad_file_for_nothing_and_says_what_waits() {
    const FEW: &str = "[limits]\nmode = \"enforce\"\nguests_per_address = \"1/1h\"\n";
    let (binary, server) = serve(FEW);
    assert_eq!(status_for(&server, "192.0.2.1"), StatusCode::OK);
    for bad in [
        "[limits]\nmode = \"off\"\nguests_per_address = \"1\"\n",
        "[limits]\nmode = \"off\"\n[tokens]\nacces_ttl = \"1h\"\n",
        "[limits\n",
        // One that a start would refuse.
        "[limits]\nmode = \"off\"\n[tls]\ncertificate_file = \"./absent\"\nkey_file = \"./absent\"\n",
    ] {
        reload(
            &binary,
            &server,
            bad,
            "the configuration was not read again",
        );
        assert_eq!(
            status_for(&server, "192.0.2.1"),
            StatusCode::TOO_MANY_REQUESTS
        );
    }
    let moved = format!("keep_alive = \"10s\"\n{FEW}");
    let says = "take effect at the next start: keep_alive";
    reload(&binary, &server, &moved, says);
    reload(&binary, &server, &moved, says);
    assert_eq!(server.stop().code(), Some(0));
}

#[test]
fn f56_sighup_takes_over_the_token_of_the_operators() {
    let address = free_address();
    let mut binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    binary.set_variable("GUESTPASS_ADMIN_LISTEN", &address.to_string());
    binary.set_variable("GUESTPASS_ADMIN__TOKEN_FILE", "./token");
    let file = binary.working_dir().join("token");
    let [old, new] = ["o".repeat(40), "n".repeat(40)];
    fs::write(&file, &old).unwrap();
    let server = binary.serve();
    let status = |token: &str| {
        // Without the metrics, which aren't JSON.
        let asked = request("HEAD", "/metrics")
            .header("host", "localhost")
            .header("authorization", format!("Bearer {token}"));
        let mut connection = Connection::open(address).unwrap();
        connection.send(&asked).unwrap().status
    };
    assert_eq!(
        (status(&old), status(&new)),
        (StatusCode::OK, StatusCode::UNAUTHORIZED)
    );
    fs::write(&file, &new).unwrap();
    server.signal("HUP");
    eventually("the new one opens", || status(&new) == StatusCode::OK);
    assert_eq!(status(&old), StatusCode::UNAUTHORIZED);
    let log = server.log();
    assert!(log.contains("the token of the operators"), "{log}");
    assert!(!log.contains(&old) && !log.contains(&new), "{log}");
}
