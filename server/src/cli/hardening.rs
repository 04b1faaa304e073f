//! The memory of the process holds keys, so it is kept out of core dumps, and from other processes of the same user.

use super::Failure;

/// Holds the limits of core dumps from before this program forbade them.
pub(super) struct CoreDumps {
    #[cfg(target_os = "linux")]
    before: rustix::process::Rlimit,
}

#[cfg(target_os = "linux")]
impl CoreDumps {
    /// Forbids them, before the first secret is read: the kernel then writes no core, whatever the limit and the handler of
    /// cores, and lets no process without privileges trace this one or read its memory (`prctl(2)`, `PR_SET_DUMPABLE`).
    pub(super) fn forbid() -> Self {
        use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, setrlimit};

        let before = getrlimit(Resource::Core);
        let none = Rlimit {
            current: Some(0),
            ..before
        };
        // Neither can fail: the one value is valid, and the other limit is lowered.
        let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
        let _ = setrlimit(Resource::Core, none);
        Self { before }
    }

    /// Forbids them for good: nothing raises the limit again.
    pub(super) fn keep_forbidden(self) {
        use rustix::process::{Resource, Rlimit, setrlimit};

        let none = Rlimit {
            current: Some(0),
            maximum: Some(0),
        };
        // It can't fail: a limit may always be lowered.
        let _ = setrlimit(Resource::Core, none);
    }

    /// Allows them again, as far as they were.
    pub(super) fn allow(self) -> Result<(), Failure> {
        use rustix::process::{DumpableBehavior, Resource, set_dumpable_behavior, setrlimit};

        setrlimit(Resource::Core, self.before)
            .and_then(|()| set_dumpable_behavior(DumpableBehavior::Dumpable))
            .map_err(|error| {
                Failure(format!(
                    "core_dumps = true: the operating system doesn't allow it: {error}"
                ))
            })
    }
}

#[cfg(not(target_os = "linux"))]
impl CoreDumps {
    /// Does nothing: core dumps are off by default elsewhere.
    pub(super) fn forbid() -> Self {
        Self {}
    }

    /// Does nothing.
    pub(super) fn keep_forbidden(self) {}

    /// Does nothing.
    pub(super) fn allow(self) -> Result<(), Failure> {
        Ok(())
    }
}
