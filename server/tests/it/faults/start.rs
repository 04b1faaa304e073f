//! What is there at a start.
