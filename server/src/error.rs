//! What can go wrong with a request.

use guestpass_core::refusal::Refusal;

use crate::store::Unavailable;

/// Why a request isn't answered with what it asked for. `http::respond` turns it into a response, in one place.
#[derive(Clone, Debug)]
pub enum Error {
    /// The request may not have what it asks for.
    Refused(Refusal),
    /// Nothing is wrong with the request; it may be tried again.
    Unavailable(Unavailable),
    /// A defect of this program.
    Internal(String),
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Unavailable> for Error {
    fn from(error: Unavailable) -> Self {
        Self::Unavailable(error)
    }
}
