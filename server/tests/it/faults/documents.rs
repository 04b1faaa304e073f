//! What the documents, the crate and the tests promise.
