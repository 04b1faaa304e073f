//! The hot path: [`guestpass::store::Grants`].

mod batches;
mod redemptions;
mod rows;
mod writes;

pub(super) use self::batches::*;
pub(super) use self::redemptions::*;
pub(super) use self::rows::*;
pub(super) use self::writes::*;
