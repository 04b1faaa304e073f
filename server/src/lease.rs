//! Leases: of many nodes, the one that holds a row in the store does the work of all. When it dies, another takes over after the
//! row's time.

use std::time::Duration;

use guestpass_core::time::Timestamp;

use crate::store::{Grants, Lease, Outcome, Unavailable, Write};

/// Holds a lease for this node, or tries to.
pub(crate) struct Leaseholder {
    lease: Lease,
    node: String,
    lasts: Duration,
    renewed_with: Duration,
    held_until: Timestamp,
}

impl Leaseholder {
    /// Makes a holder that has nothing yet. A lease `lasts` for that time, and is renewed when no more than `renewed_with` is left
    /// of it.
    pub(crate) const fn new(
        lease: Lease,
        node: String,
        lasts: Duration,
        renewed_with: Duration,
    ) -> Self {
        Self {
            lease,
            node,
            lasts,
            renewed_with,
            held_until: Timestamp::from_millis(0),
        }
    }

    /// Acquires the lease, or renews it in time. Returns whether this node has it.
    pub(crate) async fn hold(
        &mut self,
        grants: &dyn Grants,
        now: Timestamp,
    ) -> Result<bool, Unavailable> {
        // A clock that was set back makes it seem to last for longer than it ever does.
        let is_sound = self.held_until <= now + self.lasts;
        if is_sound && now + self.renewed_with < self.held_until {
            return Ok(true);
        }
        let until = now + self.lasts;
        let hold = Write::HoldLease(self.lease, self.node.clone(), now, until);
        let is_held = grants.write(hold).await? == Outcome::Done;
        if is_held {
            self.held_until = until;
        }
        Ok(is_held)
    }
}
