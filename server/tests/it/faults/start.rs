//! Tests what a start may do to what is there.

mod files;
mod found;
mod interrupted;
mod issuer;
mod leftover_log;
mod marks;
mod names;
mod restored;
