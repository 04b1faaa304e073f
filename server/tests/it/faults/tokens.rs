//! Tokens, grants and guests.

mod guesses;
mod live;
