//! The clock is wrong.
