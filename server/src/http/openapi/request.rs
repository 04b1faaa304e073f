//! Describes requests, from the tables of parameters.

use axum::http::StatusCode;
use guestpass_core::params::{Accepts, MAX_COUNT, MAX_NAME_CHARS, Parameter, Presence};
use guestpass_core::token_request::GRANT_TYPES;
use serde_json::{Map, Value, json};

use super::super::endpoint::{Endpoint, Operation, ParameterLocation};
use super::capitalized;

/// Describes the parameters in the query and the header.
pub(super) fn parameters(endpoint: &Endpoint, operation: &Operation) -> Vec<Value> {
    let in_query = match (operation.query, endpoint.location) {
        (Some(own), _) => own,
        (None, ParameterLocation::Query) => endpoint.parameters,
        (None, ParameterLocation::Body) => &[],
    };
    let mut parameters: Vec<_> = in_query
        .iter()
        .map(|parameter| {
            let is_required = parameter.presence == Presence::Required;
            json!({
                "name": parameter.name,
                "in": "query",
                "required": is_required,
                "allowEmptyValue": !is_required,
                "description": description(parameter),
                "schema": values(parameter),
            })
        })
        .collect();
    let is_document = operation
        .answers
        .iter()
        .any(|answer| answer.status == StatusCode::NOT_MODIFIED);
    if is_document {
        parameters.push(json!({
            "name": "if-none-match",
            "in": "header",
            "description": "The `etag` of the version that the caller has.",
            "schema": {"type": "string"},
        }));
    }
    parameters
}

/// Describes the body, if the operation reads one.
pub(super) fn body(endpoint: &Endpoint, operation: &Operation) -> Option<Value> {
    if endpoint.location != ParameterLocation::Body || operation.query.is_some() {
        return None;
    }
    let schema = match variants(endpoint).as_slice() {
        [(name, _)] => reference(name),
        variants => {
            let mapping: Map<_, _> = variants
                .iter()
                .filter_map(|(name, grant_type)| {
                    let target = format!("#/components/schemas/{name}");
                    grant_type.map(|grant_type| (grant_type.to_owned(), target.into()))
                })
                .collect();
            json!({
                "oneOf": variants.iter().map(|(name, _)| reference(name)).collect::<Vec<_>>(),
                "discriminator": {"propertyName": "grant_type", "mapping": mapping},
            })
        }
    };
    Some(json!({
        "required": true,
        "description": "Send all parameters here, and none in the query.",
        "content": {
            "application/x-www-form-urlencoded": {"schema": schema},
            "application/json": {"schema": schema},
        },
    }))
}

/// Builds the schemas of the body, by name.
pub(super) fn schemas(endpoint: &Endpoint) -> Vec<(String, Value)> {
    let variants = match endpoint.location {
        ParameterLocation::Query => Vec::new(),
        ParameterLocation::Body => variants(endpoint),
    };
    variants
        .into_iter()
        .map(|(name, grant_type)| (name, object(endpoint.parameters, grant_type)))
        .collect()
}

/// Lists the variants of the body, by name: one for each grant type, if parameters depend on it, else one.
fn variants(endpoint: &Endpoint) -> Vec<(String, Option<&'static str>)> {
    let depends_on_grant_type = endpoint.parameters.iter().any(|it| {
        matches!(
            it.presence,
            Presence::OnlyWith(_) | Presence::RequiredWith(_)
        )
    });
    if depends_on_grant_type {
        let name = |grant_type: &str| grant_type.split('_').map(capitalized).collect::<String>();
        GRANT_TYPES
            .map(|grant_type| (format!("{}Request", name(grant_type)), Some(grant_type)))
            .into()
    } else {
        let name = match endpoint.operations {
            // Both have one table.
            [
                Operation {
                    id: "revoke" | "introspect",
                    ..
                },
                ..,
            ]
            | [] => "PresentedToken".to_owned(),
            [operation, ..] => format!("{}Request", capitalized(operation.id)),
        };
        vec![(name, None)]
    }
}

fn object(table: &[Parameter], grant_type: Option<&str>) -> Value {
    let (mut properties, mut required, mut example) = (Map::new(), Vec::new(), Map::new());
    for parameter in table {
        let is_required = match parameter.presence {
            Presence::Required => true,
            Presence::Optional => false,
            Presence::RequiredWith(with) => grant_type == Some(with),
            Presence::OnlyWith(with) if grant_type == Some(with) => true,
            Presence::OnlyWith(_) => continue,
        };
        let mut schema = match grant_type {
            Some(grant_type) if parameter.name == "grant_type" => json!({"const": grant_type}),
            _ => values(parameter),
        };
        if is_required {
            required.push(parameter.name);
            let value = schema.get("const").or_else(|| schema["examples"].get(0));
            example.extend(value.map(|value| (parameter.name.to_owned(), value.clone())));
        }
        schema["description"] = description(parameter).into();
        properties.insert(parameter.name.to_owned(), schema);
    }
    json!({
        "type": "object",
        "properties": properties,
        "required": required,
        // Unknown parameters are ignored, but must be strings without control characters, and count towards the limit.
        "additionalProperties": {"type": "string", "pattern": NO_CONTROL_CHARACTERS},
        "propertyNames": {"maxLength": MAX_NAME_CHARS, "pattern": NO_CONTROL_CHARACTERS},
        "maxProperties": MAX_COUNT,
        "examples": [example],
    })
}

/// A regular expression (ECMA-262) for all of a text.
const NO_CONTROL_CHARACTERS: &str = r"^[^\x00-\x1f\x7f-\x9f]*$";

/// Describes a parameter. A schema limits a text in characters, so the description tells the limit in bytes.
fn description(parameter: &Parameter) -> String {
    let Parameter {
        about, max_bytes, ..
    } = parameter;
    match parameter.accepts {
        Accepts::Text { .. } => format!("{about} At most {max_bytes} bytes of UTF-8."),
        Accepts::Only(_) | Accepts::OneOf(_) | Accepts::Match { .. } | Accepts::Nothing => {
            (*about).to_owned()
        }
    }
}

fn values(parameter: &Parameter) -> Value {
    match parameter.accepts {
        Accepts::Only(value) => json!({"type": "string", "const": value}),
        Accepts::OneOf(values) => json!({"type": "string", "enum": values}),
        Accepts::Match { pattern, example } => {
            json!({"type": "string", "pattern": pattern, "examples": [example]})
        }
        Accepts::Text { example } => json!({
            "type": "string",
            "pattern": NO_CONTROL_CHARACTERS,
            "minLength": u8::from(parameter.presence != Presence::Optional),
            "maxLength": parameter.max_bytes,
            "examples": [example],
        }),
        Accepts::Nothing => json!({"type": "string", "const": ""}),
    }
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}
