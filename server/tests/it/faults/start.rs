//! What is there at a start, and what a start may do to it.

mod files;
mod found;
mod interrupted;
mod issuer;
mod leftover_log;
mod marks;
mod names;
mod restored;
