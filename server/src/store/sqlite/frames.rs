//! Reads the frames of a log, as SQLite's file format describes them (section 4), to tell one that is damaged in its
//! middle from one whose end was never written.
//!
//! SQLite reads a log up to the first frame whose checksum is wrong, and says nothing of what follows: after a crash
//! that is a transaction which nobody was told of. A transaction is synced before the next one begins, so if a frame
//! follows that was written behind a transaction's last, and all of that isn't read, some of it was damaged since.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

/// Says how much of a log can be read.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Readable {
    /// The length in bytes up to which SQLite reads it: whole transactions.
    pub(super) length: u64,
    /// Frames that follow were written behind transactions that are lost with it.
    pub(super) is_damaged: bool,
}

/// Looks what can be read of a log. `page` is the size of the pages of its database, in bytes.
pub(super) fn readable(log: &Path, page: usize) -> io::Result<Readable> {
    let file = File::open(log)?;
    let frame_length = FRAME_HEADER + page;
    let frames = file.metadata()?.len().saturating_sub(HEADER as u64) / frame_length as u64;
    let mut reader = BufReader::with_capacity(BUFFER, file);
    let mut header = [0; HEADER];
    if reader.read_exact(&mut header).is_err() {
        return Ok(Readable::default());
    }
    let header = Header::of(&header, page);
    let mut frame = vec![0; frame_length];
    let mut read = HEADER as u64;
    let mut length = if header.is_whole { read } else { 0 };
    let mut is_whole = header.is_whole;
    // The next frame continues this: while the log is whole, all before it.
    let mut before = Before {
        checksum: header.checksum,
        computed: header.checksum,
        salts: header.salts,
        is_last_of_lost: false,
    };
    for _ in 0..frames {
        reader.read_exact(&mut frame)?;
        read += frame_length as u64;
        let checksum = [word(&frame, 16), word(&frame, 20)];
        let computed = header.checksum_of(&frame, before.checksum);
        let continues = checksum == computed;
        let is_of_log = frame[8..16] == before.salts;
        let is_last = word(&frame, 4) != 0;
        is_whole &= continues && is_of_log;
        if is_whole && is_last {
            length = read;
        }
        let follows = continues || header.checksum_of(&frame, before.computed) == checksum;
        if before.is_last_of_lost && follows && is_of_log {
            return Ok(Readable {
                length,
                is_damaged: true,
            });
        }
        before = Before {
            checksum,
            computed,
            salts: match header.is_whole {
                true => header.salts,
                false => salts(&frame[8..16]),
            },
            is_last_of_lost: !is_whole && is_last,
        };
    }
    Ok(Readable {
        length,
        is_damaged: false,
    })
}

/// The frame before another one, or the header.
struct Before {
    checksum: [u32; 2],
    /// The checksum that it should have, if only that is damaged.
    computed: [u32; 2],
    salts: [u8; 8],
    /// It is the last of a transaction that SQLite doesn't read.
    is_last_of_lost: bool,
}

struct Header {
    is_big_endian: bool,
    salts: [u8; 8],
    checksum: [u32; 2],
    is_whole: bool,
}

impl Header {
    /// Reads the header of the log of a database with pages of that size.
    fn of(bytes: &[u8; HEADER], page: usize) -> Self {
        let magic = word(bytes, 0);
        let mut header = Self {
            is_big_endian: magic & 1 == 1,
            salts: salts(&bytes[16..24]),
            checksum: [word(bytes, 24), word(bytes, 28)],
            is_whole: false,
        };
        header.is_whole = magic & !1 == MAGIC
            && word(bytes, 8) as usize == page
            && header.add([0, 0], &bytes[..24]) == header.checksum;
        if !header.is_whole {
            // As this machine writes it, for it can't be relied on.
            header.is_big_endian = cfg!(target_endian = "big");
        }
        header
    }

    /// Returns the checksum of a frame that follows one with the checksum `before`.
    fn checksum_of(&self, frame: &[u8], before: [u32; 2]) -> [u32; 2] {
        self.add(self.add(before, &frame[..8]), &frame[FRAME_HEADER..])
    }

    fn add(&self, [mut first, mut second]: [u32; 2], bytes: &[u8]) -> [u32; 2] {
        let read = match self.is_big_endian {
            true => u32::from_be_bytes,
            false => u32::from_le_bytes,
        };
        for pair in bytes.as_chunks::<8>().0 {
            let [a, b, c, d, e, f, g, h] = *pair;
            first = first.wrapping_add(read([a, b, c, d])).wrapping_add(second);
            second = second.wrapping_add(read([e, f, g, h])).wrapping_add(first);
        }
        [first, second]
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn salts(bytes: &[u8]) -> [u8; 8] {
    let mut salts = [0; 8];
    salts.copy_from_slice(bytes);
    salts
}

const MAGIC: u32 = 0x377f_0682;
const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
const BUFFER: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use std::fs;

    use rusqlite::Connection;

    use super::*;

    /// A log of twenty transactions, of one or more frames each.
    fn log() -> (tempfile::TempDir, Connection, Vec<u8>) {
        let directory = tempfile::tempdir().unwrap();
        let connection = Connection::open(directory.path().join("db")).unwrap();
        connection
            .execute_batch("pragma page_size = 512; pragma journal_mode = wal; create table t (x)")
            .unwrap();
        for _ in 0..20 {
            let sql = "insert into t values (randomblob(900))";
            connection.execute(sql, []).unwrap();
        }
        let log = fs::read(directory.path().join("db-wal")).unwrap();
        (directory, connection, log)
    }

    /// The length up to which a damaged log can be read. `None` if it isn't damaged.
    fn damaged(log: &[u8]) -> Option<u64> {
        let readable = look(log);
        readable.is_damaged.then_some(readable.length)
    }

    fn look(log: &[u8]) -> Readable {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), log).unwrap();
        readable(file.path(), 512).unwrap()
    }

    const FRAME: usize = FRAME_HEADER + 512;

    /// The lengths behind each transaction.
    fn transactions(log: &[u8]) -> Vec<usize> {
        (HEADER + FRAME..=log.len())
            .step_by(FRAME)
            .filter(|end| word(log, end - FRAME + 4) != 0)
            .collect()
    }

    #[test]
    fn a_log_that_is_whole_or_lacks_its_end_is_not_damaged() {
        let (_directory, connection, log) = log();
        let ends = transactions(&log);
        assert_eq!(damaged(&log), None);
        assert_eq!(look(&log).length, log.len() as u64);
        for length in [0, 1, 31, 32, 33, log.len() - 1, log.len() - FRAME] {
            assert_eq!(damaged(&log[..length]), None, "{length}");
        }
        // The last transaction was written in part, in whatever order.
        for at in (ends[ends.len() - 2]..log.len()).step_by(100) {
            let mut torn = log.clone();
            torn[at] ^= 1;
            assert_eq!(damaged(&torn), None, "{at}");
            assert_eq!(look(&torn).length, ends[ends.len() - 2] as u64, "{at}");
        }
        // One begun anew over an older one, whose frames follow.
        let moved = "pragma wal_checkpoint(restart); insert into t values (1)";
        connection.execute_batch(moved).unwrap();
        let file = connection.path().unwrap().to_owned() + "-wal";
        let anew = fs::read(file).unwrap();
        assert!(anew.len() == log.len() && anew != log);
        assert_eq!(damaged(&anew), None);
    }

    #[test]
    fn a_log_that_is_damaged_in_its_middle_is_read_up_to_there() {
        let (_directory, _connection, mut log) = log();
        let ends = transactions(&log);
        for at in (HEADER..ends[ends.len() - 2]).step_by(37) {
            let mut flipped = log.clone();
            flipped[at] ^= 1;
            let before = ends.iter().rfind(|end| **end <= at);
            let expected = before.copied().unwrap_or(HEADER) as u64;
            assert_eq!(damaged(&flipped), Some(expected), "{at}");
        }
        for at in 0..HEADER {
            let mut flipped = log.clone();
            flipped[at] ^= 1;
            assert_eq!(damaged(&flipped), Some(0), "{at}");
        }
        // Another page size than the database has.
        let mut other = log.clone();
        other[8..12].copy_from_slice(&4096_u32.to_be_bytes());
        assert_eq!(damaged(&other), Some(0));
        // A hole, as a file system leaves it.
        log[ends[3]..ends[9]].fill(0);
        assert_eq!(damaged(&log), Some(ends[3] as u64));
    }
}
