//! Tokens, grants and guests.

mod live;
