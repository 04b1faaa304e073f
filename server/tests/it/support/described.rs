//! Checks every answer of every test against the API's description.

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use serde_json::Value;
use tokio::sync::OnceCell;
use tower::ServiceExt;

use super::Answer;

/// Fails if the operation isn't described, or not with this status.
pub(super) async fn check(router: &Router, method: &Method, path: &str, answer: &Answer) {
    if let StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED = answer.status {
        return;
    }
    let paths = DESCRIPTION.get_or_init(|| description(router)).await["paths"]
        .as_object()
        .unwrap();
    // Base paths stand in front, and the issuer's own before or behind the path of its metadata.
    let is_metadata = |path: &str| path.contains("/.well-known/");
    let described = paths
        .iter()
        .find(|(known, _)| path.ends_with(*known) || (is_metadata(known) && is_metadata(path)));
    let (_, operations) = described.unwrap_or_else(|| panic!("{path} isn't described"));
    let operation = &operations[method.as_str().to_lowercase()];
    assert!(
        operation["responses"][answer.status.as_str()].is_object(),
        "{method} {path} isn't described to answer {}",
        answer.status
    );
}

async fn description(router: &Router) -> Value {
    let request = Request::get("/oauth/openapi.json")
        .header("host", "id.example")
        .body(Body::empty())
        .unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    Answer::read(response).await.json()
}

/// But for the server and the issuer, it is the same for all configurations.
static DESCRIPTION: OnceCell<Value> = OnceCell::const_new();
