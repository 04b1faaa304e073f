//! What can go wrong with a request.

use guestpass_core::grant::GrantId;
use guestpass_core::refusal::Refusal;

use crate::store::Unavailable;

/// Why a request isn't answered with what it asked for. `http::respond` turns it into a response, in one place.
#[derive(Clone, Debug)]
pub enum Error {
    /// The request may not have what it asks for. The grant is the one that it is about, if that is known.
    Refused(Refusal, Option<GrantId>),
    /// Nothing is wrong with the request; it may be tried again.
    Unavailable(Unavailable),
    /// A defect of this program.
    Internal(String),
}

impl Error {
    /// What [`Error::Unavailable`] is called where refusals have names.
    pub const UNAVAILABLE: &'static str = "unavailable";
    /// What [`Error::Internal`] is called where refusals have names.
    pub const INTERNAL: &'static str = "internal";

    /// The same, about a grant.
    #[must_use]
    pub fn about(self, grant: GrantId) -> Self {
        match self {
            Self::Refused(refusal, _) => Self::Refused(refusal, Some(grant)),
            other => other,
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal, None)
    }
}

impl From<Unavailable> for Error {
    fn from(error: Unavailable) -> Self {
        Self::Unavailable(error)
    }
}
