//! Tokens, grants and guests.
