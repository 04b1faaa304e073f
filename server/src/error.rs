//! The three ways in which a request fails: refused, unavailable, internal.

use guestpass_core::grant::GrantId;
use guestpass_core::refusal::Refusal;

use crate::store::Unavailable;

/// The failure of a request. `http::respond` alone turns it into a response.
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
    /// The name of [`Error::Unavailable`], beside those of the refusals.
    pub const UNAVAILABLE: &'static str = "unavailable";
    /// The name of [`Error::Internal`], beside those of the refusals.
    pub const INTERNAL: &'static str = "internal";

    /// Takes a refusal for `None`, where nothing more is said of it than "no".
    ///
    /// # Errors
    /// [`Unavailable`] if the answer isn't known.
    pub fn none_if_refused<T>(result: Result<T, Self>) -> Result<Option<T>, Unavailable> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(Self::Unavailable(error)) => Err(error),
            Err(Self::Refused(..) | Self::Internal(_)) => Ok(None),
        }
    }

    /// Adds the grant that a refusal is about, unless it is about another.
    #[must_use]
    pub fn about(self, grant: GrantId) -> Self {
        match self {
            Self::Refused(refusal, known) => Self::Refused(refusal, known.or(Some(grant))),
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
