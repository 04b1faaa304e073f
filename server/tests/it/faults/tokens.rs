//! Tokens, grants and guests.

mod gateway;
mod guesses;
mod guests;
mod head;
mod live;
mod names;
mod pages;
