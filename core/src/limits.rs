//! The sizes of what a request may hold. The server and the tables of parameters enforce them; the remedies of refusals
//! and the API's description tell them.

/// The longest path and query, in bytes.
pub const MAX_TARGET_BYTES: usize = 8 * 1024;

/// The most header fields.
pub const MAX_FIELDS: usize = 100;

/// The longest value of a header field, in bytes.
pub const MAX_FIELD_BYTES: usize = 8 * 1024;

/// The longest header, in bytes of all names and values with what separates them.
pub const MAX_HEADER_BYTES: usize = 16 * 1024;

/// The longest body, in bytes.
pub const MAX_BODY_BYTES: usize = 16 * 1024;

/// The longest `client_id`, in bytes.
pub const MAX_CLIENT_ID_BYTES: usize = 128;

/// The longest `state`, in bytes.
pub const MAX_STATE_BYTES: usize = 1024;

/// The longest code or refresh token, in bytes.
pub const MAX_CREDENTIAL_BYTES: usize = 512;
