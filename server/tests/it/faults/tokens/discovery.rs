//! The metadata of an issuer with a path is found wherever clients look for it.

use axum::http::StatusCode;
use guestpass::config::Config;

use crate::support::{TestApp, config, request};

const WELL_KNOWN: &str = "/.well-known/oauth-authorization-server";

#[tokio::test]
async fn f41_the_metadata_is_found_before_and_behind_the_path_of_the_issuer() {
    for (issuer, path, base_paths, base) in [
        ("https://id.example", "", &["", "/api"][..], ""),
        ("https://id.example:8443", "", &["/api"], "/api"),
        ("https://id.example/id", "/id", &["", "/api"], ""),
        ("https://id.example/id", "/id", &["", "/id"], "/id"),
        ("https://id.example/api", "/api", &["", "/api"], "/api"),
        ("https://id.example:8443/a/b", "/a/b", &["/a/b"], "/a/b"),
    ] {
        let base_paths = base_paths.iter().map(|path| (*path).to_owned());
        let config = Config {
            base_paths: base_paths.collect(),
            ..config(&[("issuer", issuer)])
        };
        let test = TestApp::with_config(config).await;
        let inserted = test
            .send(request("GET", &format!("{WELL_KNOWN}{path}")))
            .await;
        assert_eq!(inserted.status, StatusCode::OK, "{issuer}");
        let said = inserted.json();
        assert_eq!(said["issuer"], issuer);
        let origin = issuer.strip_suffix(path).unwrap();
        assert_eq!(
            said["token_endpoint"],
            format!("{origin}{base}/oauth/token")
        );
        for method in ["GET", "HEAD"] {
            let appended = request(method, &format!("{path}{WELL_KNOWN}"));
            let answer = test.send(appended.clone()).await;
            assert_eq!(answer.status, StatusCode::OK, "{issuer}");
            assert_eq!(answer.header("etag"), inserted.header("etag"), "{issuer}");
            let known = appended.header("if-none-match", inserted.header("etag").unwrap());
            assert_eq!(test.send(known).await.status, StatusCode::NOT_MODIFIED);
        }
        let elsewhere = request("GET", &format!("/elsewhere{WELL_KNOWN}"));
        assert_eq!(test.send(elsewhere).await.status, StatusCode::NOT_FOUND);
    }
}
