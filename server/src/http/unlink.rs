//! `POST /oauth/unlink`: takes back which customer a guest is.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use guestpass_core::presented_token::CUSTOMER_PARAMETERS;
use serde::Serialize;
use serde_json::{Value, json};

use super::endpoint::{Answer, Caller, Endpoint, Operation, ParameterLocation, Schema, sub, subn};
use super::{back_end, link};
use crate::app::App;
use crate::error::Error;

pub(super) static ENDPOINT: Endpoint = Endpoint {
    path: "/oauth/unlink",
    allow: "POST, OPTIONS",
    parameters: CUSTOMER_PARAMETERS,
    location: ParameterLocation::Body,
    caller: Caller::BackEnd,
    early_check: None,
    operations: &[Operation {
        methods: &["POST"],
        query: None,
        id: "unlink",
        summary: "Undo the link of a guest to a customer",
        about: "For confidential clients that may link. Nothing else of the guest changes, and it can be linked anew, to the same \
                customer or another. A restored backup doesn't bring the link back.",
        answers: &[Answer::json(
            "The guest is linked to nobody.",
            Schema {
                name: "Unlinked",
                of: schema,
            },
        )],
    }],
};

#[derive(Serialize)]
struct Unlinked {
    sub: String,
    subn: String,
    outcome: &'static str,
}

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "sub": sub(),
            "subn": subn(),
            "outcome": {
                "enum": ["unlinked", "not_linked"],
                "description": "Whether the link was undone by this request, or there was none.",
            },
        },
        "required": ["sub", "subn", "outcome"],
        "additionalProperties": false,
    })
}

pub(super) async fn post(State(app): State<Arc<App>>, request: Request) -> Result<Response, Error> {
    back_end::answer(&app, &ENDPOINT, request, async |client, params| {
        let (token, customer) = link::asked(client, params)?;
        let (guest, outcome) = app.unlink(client, token, &customer).await?;
        let unlinked = Unlinked {
            sub: guest.id.to_string(),
            subn: guest.network_id.to_string(),
            outcome: outcome.name(),
        };
        Ok(Json(unlinked).into_response())
    })
    .await
}
