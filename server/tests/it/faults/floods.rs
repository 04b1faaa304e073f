//! Floods, and what they leave behind.

mod log;
mod readiness;
