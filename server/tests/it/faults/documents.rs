//! Tests what the documents, the crate and the tests promise.

use axum::http::StatusCode;
use guestpass::config::{Config, Issuer};
use serde_json::Value;

use crate::support::{TestApp, config, request};

const WELL_KNOWN: &str = "/.well-known/oauth-authorization-server";

#[tokio::test]
async fn f41_the_metadata_of_an_issuer_with_a_path_is_where_the_standard_says_and_appended() {
    for issuer in [
        "https://host.example/id",
        "https://host.example:8443/id",
        "https://host.example/shops/1/id.v2",
        "https://host.example/api",
        "http://127.0.0.1:8080/id",
    ] {
        let test = TestApp::with_config(config(&[("issuer", issuer)])).await;
        let path = issuer.splitn(4, '/').nth(3).unwrap();
        let by_the_standard = format!("{WELL_KNOWN}/{path}");
        let appended = format!("/{path}{WELL_KNOWN}");
        let first = test.send(request("GET", &by_the_standard)).await;
        assert_eq!(first.status, StatusCode::OK, "{first:?}");
        assert_eq!(first.json()["issuer"], issuer);
        let second = test.send(request("GET", &appended)).await;
        assert_eq!(second.status, StatusCode::OK, "{second:?}");
        for name in ["cache-control", "content-type", "etag"] {
            assert_eq!(second.header(name), first.header(name), "{name}");
        }
        assert_eq!(second.body, first.body);
        for method in ["GET", "HEAD"] {
            let known = request(method, &appended);
            let known = known.header("if-none-match", first.header("etag").unwrap());
            assert_eq!(test.send(known).await.status, StatusCode::NOT_MODIFIED);
        }

        let description = test
            .send(request("GET", "/oauth/openapi.json"))
            .await
            .json();
        for path in [&by_the_standard, &appended] {
            let answers = &description["paths"][path]["get"]["responses"];
            assert!(answers["200"].is_object(), "{path}");
            let options = test.send(request("OPTIONS", path)).await;
            assert_eq!(options.status, StatusCode::NO_CONTENT);
            let post = test.send(request("POST", path)).await;
            assert_eq!(post.status, StatusCode::METHOD_NOT_ALLOWED);
        }
        // Of an issuer without a path, or with another one, there is nothing.
        for path in [
            WELL_KNOWN.to_owned(),
            format!("{WELL_KNOWN}/other"),
            format!("/other{WELL_KNOWN}"),
            format!("{by_the_standard}/"),
            format!("/{path}/{path}{WELL_KNOWN}"),
        ] {
            let answer = test.send(request("GET", &path)).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        }
    }
}

#[tokio::test]
async fn f41_the_metadata_of_an_issuer_without_a_path_is_in_one_place() {
    let test = TestApp::with_config(config(&[("issuer", "https://host.example:8443")])).await;
    let answer = test.send(request("GET", WELL_KNOWN)).await;
    assert_eq!(answer.json()["issuer"], "https://host.example:8443");
    for path in [format!("/api{WELL_KNOWN}"), format!("{WELL_KNOWN}/api")] {
        let answer = test.send(request("GET", &path)).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
    }
}

/// As docs/calling.md says: under the issuer if its path is a base path, else on its host, under the first base path.
#[tokio::test]
async fn f41_the_published_endpoints_answer_whatever_the_path_of_the_issuer() {
    for (issuer, base_paths, published) in [
        ("https://host.example/id", "/,/api", "https://host.example"),
        (
            "https://host.example/id",
            "/,/id",
            "https://host.example/id",
        ),
        (
            "https://host.example:8443/id",
            "/api",
            "https://host.example:8443/api",
        ),
        (
            "https://host.example/api",
            "/,/api",
            "https://host.example/api",
        ),
        (
            "https://host.example:8443",
            "/,/api",
            "https://host.example:8443",
        ),
    ] {
        let settings = [("issuer", issuer), ("base_paths", base_paths)];
        let settings = settings.map(|(name, value)| (name, value.to_owned()));
        let config = Config::from_sources(&settings, Vec::new(), None).unwrap();
        let test = TestApp::with_config(config).await;
        let path = issuer.splitn(4, '/').nth(3);
        let path = path.map_or(WELL_KNOWN.to_owned(), |path| format!("/{path}{WELL_KNOWN}"));
        let metadata: Value = test.send(request("GET", &path)).await.json();
        let endpoints = metadata.as_object().unwrap().iter();
        let endpoints =
            endpoints.filter(|(name, _)| *name == "jwks_uri" || name.ends_with("_endpoint"));
        let mut found = 0;
        for (name, url) in endpoints {
            let url = url.as_str().unwrap();
            assert!(
                url.starts_with(&format!("{published}/oauth/")),
                "{issuer} {name}: {url}"
            );
            let (_, path) = url.split_once("host.example").unwrap();
            let path = &path[path.find('/').unwrap()..];
            let answer = test.send(request("OPTIONS", path)).await;
            assert_eq!(answer.status, StatusCode::NO_CONTENT, "{url}");
            found += 1;
        }
        assert_eq!(found, 5);
    }
}

#[test]
fn f41_an_issuer_whose_path_libraries_read_differently_is_refused() {
    for refused in [
        "https://host.example//id",
        "https://host.example/a//b",
        "https://host.example/./id",
        "https://host.example/a/..",
        "https://host.example/:id",
        "https://host.example/a:b",
        "https://host.example/[id]",
        "https://host.example/.well-known/oauth-authorization-server",
    ] {
        let refusal = refused.parse::<Issuer>().unwrap_err();
        assert!(refusal.contains("its path"), "{refused}: {refusal}");
    }
    for taken in [
        "https://host.example/id",
        "https://host.example:8443/a/b-c_d/e.f/1",
        "http://[::1]:8080/id",
    ] {
        assert!(taken.parse::<Issuer>().is_ok(), "{taken}");
    }
}
