//! The fuzzing targets: a function for each thing that reads what isn't ours. Each takes any bytes and panics if an
//! invariant doesn't hold.

mod credentials;
mod files;
mod guests;
mod parameters;
mod requests;
mod tokens;

pub use credentials::credentials;
pub use files::{config, journal, postgres_url};
pub use guests::import;
pub use parameters::{form, json};
pub use requests::request;
pub use tokens::{access_token, credential};

/// A target: its name, which is that of its folder in the corpus too, and its function.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: &[Target] = &[
    ("access_token", access_token),
    ("config", config),
    ("credential", credential),
    ("credentials", credentials),
    ("form", form),
    ("import", import),
    ("journal", journal),
    ("json", json),
    ("postgres_url", postgres_url),
    ("request", request),
];
