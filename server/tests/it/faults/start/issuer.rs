//! The issuer belongs to the installation, and not to one of its nodes or starts.

use axum::http::StatusCode;

use crate::support::binary::Binary;
use crate::support::{ISSUER, SHOP, TestApp, config, profile, revoke, verify};

const OTHER: &str = "https://other.example";

#[test]
fn f17_a_start_with_another_issuer_is_refused() {
    let binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    let server = binary.serve_with(&["--issuer", ISSUER]);
    assert!(server.stop().success());
    let other = ["serve", "--listen", "127.0.0.1:0", "--issuer", OTHER];
    let problem = binary.failure(&other);
    for part in [ISSUER, OTHER, "db set-issuer"] {
        assert!(problem.contains(part), "{problem}");
    }
    // One that doesn't say goes on with it, whatever its port is.
    let server = binary.serve();
    assert_eq!(server.guest().claims["iss"], ISSUER);
    assert!(server.stop().success());

    let changed = binary.json(&["db", "set-issuer", OTHER]);
    assert_eq!(changed["before"], ISSUER);
    let server = binary.serve_with(&["--issuer", OTHER]);
    assert_eq!(server.guest().claims["iss"], OTHER);
}

/// On loopback the issuer follows the port, unless one is set.
mod sqlite {
    use super::*;

    #[test]
    fn f17_an_issuer_that_nobody_set_is_not_kept() {
        let binary = Binary::new();
        binary.json(&["client", "add", SHOP]);
        for _ in 0..2 {
            let server = binary.serve();
            let own = format!("http://{}", server.address);
            assert_eq!(server.guest().claims["iss"], own);
            assert!(server.stop().success());
        }
        let server = binary.serve_with(&["--issuer", ISSUER]);
        assert_eq!(server.guest().claims["iss"], ISSUER);
    }

    #[test]
    fn f17_with_postgresql_the_issuer_must_be_set() {
        let mut binary = Binary::new();
        binary.set_variable("GUESTPASS_DATABASE", "postgres://guestpass@127.0.0.1:1/x");
        for command in [
            &["config", "check"][..],
            &["serve", "--listen", "127.0.0.1:0"],
        ] {
            let problem = binary.failure(command);
            assert!(problem.contains("--issuer"), "{problem}");
        }
    }
}

#[tokio::test]
async fn f17_a_token_of_our_own_key_is_revoked_whatever_its_issuer() {
    let test = TestApp::new().await;
    let other = test.beside(config(&[("issuer", OTHER)])).await;
    let [guest, erased] = [test.guest().await, test.guest().await];
    let revoked = other.send(revoke(&guest.access_token)).await;
    assert_eq!(revoked.status, StatusCode::OK);
    test.app.follow().await;
    let verified = test.send(verify(&guest.access_token)).await;
    assert_eq!(verified.status, StatusCode::UNAUTHORIZED);
    // To be served with it there is another matter: nobody is told that what was asked is done.
    let request = profile(&erased.access_token).method("DELETE");
    assert_eq!(other.send(request).await.status, StatusCode::UNAUTHORIZED);
    assert!(test.is_live(&erased).await);
}
