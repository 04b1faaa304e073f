//! The parameters of a request. What is accepted must be what any other parser reads.

use std::collections::HashMap;

use guestpass_core::params::{Accepts, Parameter, Params, Presence};

const TABLE: &[Parameter] = &[text("state", 64), text("code", 512), text("client_id", 128)];

const fn text(name: &'static str, max_bytes: usize) -> Parameter {
    Parameter {
        name,
        max_bytes,
        presence: Presence::Optional,
        accepts: Accepts::Text { example: "a" },
        about: "",
    }
}

/// Reads a form.
pub fn form(data: &[u8]) {
    let Ok(params) = Params::from_form(TABLE, data) else {
        return;
    };
    let mut seen: HashMap<String, Vec<String>> = HashMap::new();
    for (name, value) in url::form_urlencoded::parse(data) {
        let values = seen.entry(name.into_owned()).or_default();
        values.push(value.into_owned());
    }
    agree(&params, &seen);
}

/// Reads a JSON object.
pub fn json(data: &[u8]) {
    let Ok(params) = Params::from_json(TABLE, data) else {
        return;
    };
    let object: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(data).expect("what was accepted is an object");
    let mut seen = HashMap::new();
    for (name, value) in object {
        let value = value
            .as_str()
            .expect("what was accepted is text")
            .to_owned();
        seen.insert(name, vec![value]);
    }
    agree(&params, &seen);
}

fn agree(params: &Params<'_>, seen: &HashMap<String, Vec<String>>) {
    for parameter in TABLE {
        let values = seen.get(parameter.name).map_or(&[][..], Vec::as_slice);
        assert!(values.len() <= 1, "{} comes twice", parameter.name);
        let value = values.first().map(String::as_str);
        assert_eq!(
            params.get(parameter.name),
            value.filter(|text| !text.is_empty())
        );
        if let Some(value) = value {
            assert!(value.len() <= parameter.max_bytes);
            assert!(!value.chars().any(char::is_control));
        }
    }
    for text in seen.keys().chain(seen.values().flatten()) {
        assert!(!text.chars().any(char::is_control), "{text:?}");
    }
}
