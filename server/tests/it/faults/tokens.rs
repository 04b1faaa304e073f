//! Tokens, grants and guests.

mod guesses;
mod guests;
mod live;
mod names;
mod pages;
