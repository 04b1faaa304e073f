//! `GET /livez`: the process runs. `GET /readyz`: it also reads its database, and may write to it.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::{Caller, Endpoint};
use crate::app::App;
use crate::error::Error;
use crate::store::Write;

pub(super) static LIVE: Endpoint = endpoint("/livez");
pub(super) static READY: Endpoint = endpoint("/readyz");

const fn endpoint(path: &'static str) -> Endpoint {
    Endpoint {
        path,
        allow: "GET, OPTIONS",
        parameters: &[],
        caller: Caller::Anyone,
    }
}

pub(super) async fn live() -> Json<Value> {
    Json(json!({"status": "live"}))
}

pub(super) async fn ready(State(app): State<Arc<App>>) -> Result<Json<Value>, Error> {
    app.clients.refresh().await?;
    app.grants.write(Write::Probe).await?;
    Ok(Json(json!({"status": "ready"})))
}
