//! `GET /livez`: the process runs. `GET /readyz`: it also reads its database, may write to it, and knows what has ended.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::endpoint::{Answer, Caller, Endpoint, Operation, ParameterLocation, Schema};
use crate::app::App;
use crate::error::Error;
use crate::store::Write;

pub(super) static LIVE: Endpoint = Endpoint {
    path: "/livez",
    allow: "GET, OPTIONS",
    parameters: &[],
    location: ParameterLocation::Query,
    caller: Caller::Anyone,
    operations: &[Operation {
        methods: &["GET"],
        id: "live",
        summary: "Whether the process runs",
        about: "Reads nothing. Restart what doesn't answer.",
        answers: &[Answer::json(
            "It does.",
            Schema {
                name: "Live",
                of: || status("live"),
            },
        )],
    }],
};

pub(super) static READY: Endpoint = Endpoint {
    path: "/readyz",
    allow: "GET, OPTIONS",
    parameters: &[],
    location: ParameterLocation::Query,
    caller: Caller::Anyone,
    operations: &[Operation {
        methods: &["GET"],
        id: "ready",
        summary: "Whether requests can be served",
        about: "Reads the database and writes to it. A 503 says that it can't; send requests elsewhere until it can.",
        answers: &[Answer::json(
            "They can.",
            Schema {
                name: "Ready",
                of: || status("ready"),
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

pub(super) async fn live() -> Json<Value> {
    Json(json!({"status": "live"}))
}

pub(super) async fn ready(State(app): State<Arc<App>>) -> Result<Json<Value>, Error> {
    app.clients.refresh().await?;
    app.grants.write(Write::Probe).await?;
    app.check_staleness()?;
    Ok(Json(json!({"status": "ready"})))
}
