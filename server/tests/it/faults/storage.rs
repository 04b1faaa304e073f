//! Disks that are full or fail, and readiness.
