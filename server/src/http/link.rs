//! `POST /oauth/link`: says which customer a guest is.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use guestpass_core::client::{Client, Permission};
use guestpass_core::customer::CustomerId;
use guestpass_core::presented_token::CUSTOMER_PARAMETERS;
use guestpass_core::refusal::Refusal;
use serde::Serialize;
use serde_json::{Value, json};

use super::client_auth::Presented;
use super::endpoint::{Answer, Caller, Endpoint, Operation, ParameterLocation, Schema, sub, subn};
use super::{body, respond};
use crate::app::App;
use crate::error::Error;
use crate::listen::Deadline;

pub(super) static ENDPOINT: Endpoint = Endpoint {
    path: "/oauth/link",
    allow: "POST, OPTIONS",
    parameters: CUSTOMER_PARAMETERS,
    location: ParameterLocation::Body,
    caller: Caller::BackEnd,
    operations: &[Operation {
        methods: &["POST"],
        id: "link",
        summary: "Link a guest to a customer",
        about: "For confidential clients that may (`guestpass client set ID --may link`), at every login, **after** the shop has \
                authenticated the customer. The access token proves that the caller holds the guest. A link is a label on the \
                guest, and never a login. It changes no `sub`; several guests may have the same customer, and a repetition changes \
                nothing. A guest that is linked to another customer stays so: the answer is 409, and the device should \
                authorize anew.",
        answers: &[Answer::json(
            "The guest is linked to the customer.",
            Schema {
                name: "Linked",
                of: schema,
            },
        )],
    }],
};

#[derive(Serialize)]
struct Linked<'a> {
    sub: String,
    subn: String,
    customer: &'a str,
    outcome: &'static str,
}

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "sub": sub(),
            "subn": subn(),
            "customer": customer(),
            "outcome": {
                "enum": ["linked", "already"],
                "description": "Whether the guest was linked by this request, or before.",
            },
        },
        "required": ["sub", "subn", "customer", "outcome"],
        "additionalProperties": false,
    })
}

/// Builds the schema of a customer's id.
pub(super) fn customer() -> Value {
    json!({
        "type": "string",
        "pattern": CustomerId::PATTERN,
        "description": "The customer that the guest has become, as the shop says. It is a label, and no login.",
    })
}

pub(super) async fn post(State(app): State<Arc<App>>, request: Request) -> Result<Response, Error> {
    answer(&app, &ENDPOINT, request, async |client, token, customer| {
        let (guest, outcome) = app.link(client, token, customer).await?;
        let linked = Linked {
            sub: guest.id.to_string(),
            subn: guest.network_id.to_string(),
            customer: customer.as_str(),
            outcome: outcome.name(),
        };
        Ok(Json(linked).into_response())
    })
    .await
}

/// Answers a request about a guest and a customer, once the client is known and may ask it.
pub(super) async fn answer(
    app: &App,
    endpoint: &Endpoint,
    request: Request,
    act: impl AsyncFnOnce(&Client, &str, &CustomerId) -> Result<Response, Error>,
) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    let deadline = parts.extensions.get::<Deadline>().copied();
    let body = body::read(&parts.headers, body, deadline).await?;
    let query = parts.uri.query().unwrap_or_default();
    let params = body::params_in_body(endpoint.parameters, &parts.headers, query, &body)?;
    let presented =
        Presented::read_if_any(&parts.headers, &params)?.ok_or(Refusal::ApiKeyMissing)?;
    let client = presented.client(app);
    let answered = async {
        let client = presented.authenticate(app, client.as_deref())?;
        client.check_may(Permission::Link)?;
        let token = params.required("token")?;
        let customer = params.required("customer")?;
        let customer = customer.parse().map_err(|_| Refusal::CustomerMalformed)?;
        act(client, token, &customer).await
    };
    let answered = answered.await;
    Ok(respond::to(client, answered))
}
