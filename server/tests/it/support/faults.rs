//! Faults of a disk: what `fault_shim.c` lets fail under the real binary.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::binary::Binary;
use super::shim;

/// The kinds of calls that can fail, as the shim numbers them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Call {
    Write,
    Sync,
    Truncate,
    Rename,
    Unlink,
    Create,
}

/// The errors that a disk gives.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Errno {
    Enospc = 28,
    Eio = 5,
    Erofs = 30,
}

impl Call {
    pub(crate) const ALL: [Self; 6] = [
        Self::Write,
        Self::Sync,
        Self::Truncate,
        Self::Rename,
        Self::Unlink,
        Self::Create,
    ];
}

impl Errno {
    pub(crate) const ALL: [Self; 3] = [Self::Enospc, Self::Eio, Self::Erofs];
}

/// The file through which a test tells the shim what to do. The binary's files are those of its data directory.
pub(crate) struct Faults {
    control: File,
}

/// Tells where the members of `struct control` lie.
const ARMED: u64 = 0;
const NTH: u64 = 4;
const ROOM: u64 = 16;
const SEEN: u64 = 24;
const FAILED: u64 = 28;
const COUNTED: u64 = 32;
const ENDING: u64 = COUNTED + 4 * Call::ALL.len() as u64;
const LENGTH: u64 = ENDING + 64;

impl Faults {
    /// Puts the shim in front of every command of `binary` from now on. Nothing fails yet.
    pub(crate) fn under(binary: &mut Binary) -> Self {
        let file = binary.working_dir().join("faults");
        let control = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&file)
            .unwrap();
        control.set_len(LENGTH + 64).unwrap();
        let shim = shim(binary.working_dir(), include_str!("../fault_shim.c"));
        let data_dir = binary.data_dir();
        let set = |binary: &mut Binary, name, path: &Path| {
            binary.set_variable(name, path.to_str().unwrap());
        };
        set(binary, "LD_PRELOAD", &shim);
        set(binary, "FAULT_SHIM_FILE", &file);
        set(binary, "FAULT_SHIM_DIR", &data_dir);
        Self { control }
    }

    /// Lets the n-th call of these kinds fail, counted from 1, on files whose paths end like that.
    pub(crate) fn fail_once(&self, calls: &[Call], nth: u32, errno: Errno, ending: &str) {
        self.arm(calls, nth, 1, errno, ending);
    }

    /// Lets all calls of these kinds fail, until [`Faults::heal`].
    pub(crate) fn fail(&self, calls: &[Call], errno: Errno, ending: &str) {
        self.arm(calls, 1, u32::MAX, errno, ending);
    }

    /// Lets nothing fail any more, but for what lacks room.
    pub(crate) fn heal(&self) {
        self.write(ARMED, &0_u32.to_ne_bytes());
    }

    /// Bounds the bytes of all files of the data directory; 0 is without bound.
    pub(crate) fn bound(&self, bytes: u64) {
        self.write(ROOM, &bytes.to_ne_bytes());
    }

    /// Returns how many calls have failed since they were last told to.
    pub(crate) fn failed(&self) -> u32 {
        self.number(FAILED)
    }

    /// Returns how many calls of a kind there were, whether they failed or not.
    pub(crate) fn counted(&self, call: Call) -> u32 {
        self.number(COUNTED + 4 * call as u64)
    }

    fn arm(&self, calls: &[Call], nth: u32, times: u32, errno: Errno, ending: &str) {
        self.heal();
        let mut ending = ending.as_bytes().to_vec();
        ending.resize(64, 0);
        self.write(ENDING, &ending);
        self.write(SEEN, &[0; 8]);
        let words = [nth, times, errno as u32];
        let words: Vec<_> = words.into_iter().flat_map(u32::to_ne_bytes).collect();
        self.write(NTH, &words);
        let armed = calls
            .iter()
            .fold(0_u32, |armed, call| armed | 1 << *call as u32);
        self.write(ARMED, &armed.to_ne_bytes());
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        self.control.write_all_at(bytes, at).unwrap();
    }

    fn number(&self, at: u64) -> u32 {
        let mut number = [0; 4];
        self.control.read_exact_at(&mut number, at).unwrap();
        u32::from_ne_bytes(number)
    }
}

/// Returns the files of an installation's database, to be looked at.
pub(crate) fn log_of(binary: &Binary) -> PathBuf {
    binary.data_dir().join("guestpass.db-wal")
}
