//! Reading a journal in bounded memory, however long the file or a line of it is: as a stream from some position on, or
//! from its end back.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

use super::{Entry, line};

/// The longest line that may be an entry, without its line feed. Ours have some 100 bytes.
const LONGEST_LINE: usize = 64 * 1024;

/// The bytes that are read at once.
const BLOCK: usize = 256 * 1024;
const _: () = assert!(
    LONGEST_LINE < BLOCK,
    "a line without an end in a block is too long"
);

/// The entries of a journal from some position on. A line that is no entry is skipped.
pub(super) struct Entries {
    /// `None` if there is no such file, which is an empty journal.
    file: Option<BufReader<File>>,
    line: Vec<u8>,
}

impl Entries {
    /// Opens a journal to be read from `position`, the beginning of a line.
    pub(super) fn open(path: &Path, position: u64) -> io::Result<Self> {
        let file = open(path)?
            .map(|mut file| {
                file.seek(SeekFrom::Start(position))?;
                Ok::<_, io::Error>(BufReader::with_capacity(BLOCK, file))
            })
            .transpose()?;
        Ok(Self {
            file,
            line: Vec::new(),
        })
    }
}

impl Iterator for Entries {
    type Item = io::Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        let file = self.file.as_mut()?;
        loop {
            match read_line(file, &mut self.line) {
                Ok(false) => return None,
                Ok(true) => {
                    if let Some(entry) = line::read(&self.line) {
                        return Some(Ok(entry));
                    }
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// Reads a line without its line feed; nothing of one that is too long. Returns `false` at the end of the file.
pub(super) fn read_line(file: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let (mut is_too_long, mut has_begun) = (false, false);
    loop {
        let available = match file.fill_buf() {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            available => available?,
        };
        if available.is_empty() {
            return Ok(has_begun);
        }
        has_begun = true;
        let feed = available.iter().position(|byte| *byte == b'\n');
        let part = &available[..feed.unwrap_or(available.len())];
        is_too_long |= line.len() + part.len() > LONGEST_LINE;
        if is_too_long {
            line.clear();
        } else {
            line.extend_from_slice(part);
        }
        let used = part.len() + usize::from(feed.is_some());
        file.consume(used);
        if feed.is_some() {
            return Ok(true);
        }
    }
}

/// The entries of a journal from its end back, each with the position behind its line.
pub(super) struct EntriesFromEnd {
    file: Option<File>,
    /// The end of what is still to be read, in bytes: the beginning of a line, unless the next is set.
    end: u64,
    ends_within_a_line: bool,
    /// Those of the last block, in the order of the file.
    entries: Vec<(u64, Entry)>,
}

impl EntriesFromEnd {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = open(path)?;
        let length = file.as_ref().map(|file| file.metadata()).transpose()?;
        Ok(Self {
            file,
            end: length.map_or(0, |file| file.len()),
            ends_within_a_line: false,
            entries: Vec::new(),
        })
    }

    /// Reads the block before the ones that were read.
    fn read_block(&mut self, file: &mut File) -> io::Result<()> {
        let start = self.end.saturating_sub(BLOCK as u64);
        let mut block = Vec::with_capacity(BLOCK);
        file.seek(SeekFrom::Start(start))?;
        file.take(self.end - start).read_to_end(&mut block)?;
        let ends_within_a_line = std::mem::take(&mut self.ends_within_a_line);
        // The line feed at the end of the block ends a line that began in it, or is too long.
        let feeds = block.split_last().map_or(&[][..], |(_, rest)| rest);
        let first_line = match start {
            0 => Some(0),
            _ => feeds
                .iter()
                .position(|byte| *byte == b'\n')
                .map(|at| at + 1),
        };
        let Some(first_line) = first_line else {
            (self.end, self.ends_within_a_line) = (start, true);
            return Ok(());
        };
        let mut position = start + first_line as u64;
        self.end = position;
        for part in block[first_line..].split_inclusive(|byte| *byte == b'\n') {
            position += part.len() as u64;
            let is_ended = part.ends_with(b"\n");
            let line = part.strip_suffix(b"\n").unwrap_or(part);
            let is_whole = is_ended || !ends_within_a_line;
            if is_whole && line.len() <= LONGEST_LINE {
                let entry = line::read(line).map(|entry| (position, entry));
                self.entries.extend(entry);
            }
        }
        Ok(())
    }
}

impl Iterator for EntriesFromEnd {
    type Item = io::Result<(u64, Entry)>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.entries.is_empty() && self.end > 0 {
            let mut file = self.file.take()?;
            let read = self.read_block(&mut file);
            self.file = Some(file);
            if let Err(error) = read {
                self.end = 0;
                return Some(Err(error));
            }
        }
        self.entries.pop().map(Ok)
    }
}

/// Opens a journal. `None` if there is none.
fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Tombstone;
    use guestpass_core::time::Timestamp;

    fn entry(number: u64) -> Entry {
        let mut hash = [0; 16];
        hash[..8].copy_from_slice(&number.to_be_bytes());
        let at = Timestamp::from_millis(1);
        Entry::GuestErased(Tombstone { hash, at })
    }

    /// Both ways read the same, with lines that are no entries and lines that are too long in between, wherever the
    /// blocks end.
    #[test]
    fn a_journal_reads_the_same_from_both_ends() {
        for long in [
            LONGEST_LINE,
            LONGEST_LINE + 1,
            BLOCK - 1,
            BLOCK,
            BLOCK + 1,
            3 * BLOCK,
        ] {
            let (mut text, mut expected) = (Vec::new(), Vec::new());
            for number in 0..9000 {
                text.extend(line::written(entry(number)).into_bytes());
                expected.push((text.len() as u64, entry(number)));
                if number % 1500 == 0 {
                    // The end of this line would be an entry by itself.
                    text.extend(vec![b' '; long]);
                    text.extend(line::written(entry(1)).into_bytes());
                    if long + line::written(entry(1)).len() - 1 <= LONGEST_LINE {
                        expected.push((text.len() as u64, entry(1)));
                    }
                    text.extend(b"{\"event\":\"of_a_newer_version\"}\n\n");
                }
            }
            let file = tempfile::NamedTempFile::new().unwrap();
            for cut_off in [&b""[..], b"{\"event\":\"guest_er"] {
                std::fs::write(file.path(), [&text, cut_off].concat()).unwrap();
                let mut backward: Vec<_> = EntriesFromEnd::open(file.path())
                    .unwrap()
                    .map(Result::unwrap)
                    .collect();
                backward.reverse();
                assert!(backward == expected, "from the end, lines of {long}");
                let forward = Entries::open(file.path(), 0).unwrap().map(Result::unwrap);
                assert!(
                    forward.eq(expected.iter().map(|(_, entry)| *entry)),
                    "from the beginning, lines of {long}"
                );
                let (position, _) = expected[5000];
                let rest = Entries::open(file.path(), position).unwrap();
                assert_eq!(rest.count(), expected.len() - 5001);
            }
        }
    }
}
