//! Implements the protocol of Guestpass in pure code.
//!
//! This crate turns what a client sent into typed requests, and a typed request with the stored [`Grant`](grant::Grant)
//! into a [`Decision`](grant::Decision). It has no clock, no source of randomness, no I/O and no log: the time, random
//! bytes and stored rows are arguments, and the decision is a return value that the caller carries out.
//!
//! Each rule has one module:
//!
//! | Rule | Module |
//! |---|---|
//! | RFC 6749 §3.1, §3.2: parameters appear once, empty is absent, unknown is ignored | [`params`] |
//! | RFC 6749 §4.1.1, RFC 7636 §4.3: the authorization request | [`authorize`] |
//! | RFC 6749 §4.1.3, §6: the token request | [`token_request`] |
//! | RFC 7009 §2.1, RFC 7662 §2.1: a request about a token | [`presented_token`] |
//! | RFC 6749 §2.3, §3.2.1: client authentication, with API keys and origins | [`client`] |
//! | RFC 7636 §4.1, §4.2, §4.6: grammar and verification, S256 only | [`pkce`] |
//! | RFC 6749 §10.10: codes and refresh tokens that can't be guessed or forged | [`credential`] |
//! | RFC 6265bis: the cookies in which a browser keeps a guest | [`cookies`] |
//! | RFC 6749 §4.1.2, §6, RFC 9700 §4.14: one use of a code, rotation, retry and replay | [`grant`] |
//! | lifetimes and choices, the server's and each client's | [`policy`], [`choice`] |
//! | what may become of a client | [`client`] |
//! | RFC 9068 §2: the claims of an access token | [`claims`] |
//! | how long an answer with tokens can become | [`answer_size`] |
//! | which customer a guest has become, and what the shop remembers of it | [`customer`], [`attributes`] |
//! | what the shop's back end is told of guests | [`event`] |
//! | every reason for a refusal | [`refusal`] |

#![warn(missing_docs)]
#![warn(clippy::wildcard_enum_match_arm)]

pub mod answer_size;
pub mod attributes;
pub mod authorize;
pub mod base64url;
pub mod choice;
pub mod claims;
pub mod client;
pub mod cookies;
pub mod credential;
pub mod customer;
pub mod event;
pub mod grant;
pub mod limits;
pub mod params;
pub mod pkce;
pub mod policy;
pub mod presented_token;
pub mod profile;
pub mod rate_limit;
pub mod refusal;
pub mod session;
pub mod ticket;
pub mod time;
pub mod token_request;
