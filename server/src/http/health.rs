//! Health checks. `GET /livez` is the liveness check; `GET /readyz`, the readiness check, also tries all that a request
//! may need (`readiness.rs`).

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::routing::{MethodRouter, get};
use serde_json::{Value, json};

use super::endpoint::{Answer, Caller, Endpoint, Operation, ParameterLocation, Schema};
use crate::app::App;
use crate::error::Error;

static LIVE: Endpoint = Endpoint {
    path: "/livez",
    allow: "GET, HEAD, OPTIONS",
    parameters: &[],
    location: ParameterLocation::Query,
    caller: Caller::Anyone,
    early_check: None,
    operations: &[Operation {
        methods: &["GET", "HEAD"],
        query: None,
        id: "live",
        summary: "Liveness check",
        about: "Answers without reading anything. Restart a process that doesn't answer.",
        answers: &[Answer::json(
            "The process is running.",
            Schema {
                name: "Live",
                of: || status("live"),
            },
        )],
    }],
};

static READY: Endpoint = Endpoint {
    path: "/readyz",
    allow: "GET, HEAD, OPTIONS",
    parameters: &[],
    location: ParameterLocation::Query,
    caller: Caller::Anyone,
    early_check: None,
    operations: &[Operation {
        methods: &["GET", "HEAD"],
        query: None,
        id: "ready",
        summary: "Readiness check",
        about: "Reads the database and writes to it, checks that the files of the database and of the journal are in their places and that the \
                journal can be written, and that the node has lately read what was revoked. All who ask within a second share one answer. On a \
                503 route requests to other nodes until it answers 200 again.",
        answers: &[Answer::json(
            "The node can serve requests: a write has just become durable.",
            Schema {
                name: "Ready",
                of: ready_schema,
            },
        )],
    }],
};

fn status(status: &str) -> Value {
    json!({
        "type": "object",
        "properties": {"status": {"const": status}},
        "required": ["status"],
        "additionalProperties": false,
    })
}

fn ready_schema() -> Value {
    let mut schema = status("ready");
    schema["properties"]["clock"] = json!({
        "enum": [TRUSTED, DOUBTED],
        "description": "`doubted` while the time may be wrong: what would be refused for that alone is answered with 503."
    });
    schema["required"] = json!(["status", "clock"]);
    schema
}

const TRUSTED: &str = "trusted";
const DOUBTED: &str = "doubted";

/// Returns the health checks with their handlers.
pub(super) fn endpoints() -> [(&'static Endpoint, MethodRouter<Arc<App>>); 2] {
    [(&LIVE, get(live)), (&READY, get(ready))]
}

async fn live() -> Json<Value> {
    Json(json!({"status": "live"}))
}

async fn ready(State(app): State<Arc<App>>) -> Result<Json<Value>, Error> {
    app.check_readiness().await?;
    let clock = match app.clock.is_doubted() {
        true => DOUBTED,
        false => TRUSTED,
    };
    Ok(Json(json!({"status": "ready", "clock": clock})))
}
