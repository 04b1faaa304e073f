//! Damage to the file of an embedded database.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The place of the table of grants in a file.
pub(crate) struct GrantsInFile {
    root: u64,
    page_size: u64,
}

impl GrantsInFile {
    /// Looks into a file that has no log, and leaves none.
    pub(crate) fn find(file: &Path) -> Self {
        let connection = rusqlite::Connection::open(file).unwrap();
        let number = |sql| connection.query_row(sql, [], |row| row.get(0)).unwrap();
        Self {
            root: number("select rootpage from sqlite_schema where name = 'grants'"),
            page_size: number("pragma page_size"),
        }
    }

    /// Overwrites the pages of the table, but for its root and the last one, into which the newest grants go.
    pub(crate) fn damage(&self, file: &Path) {
        let file = fs::File::options()
            .read(true)
            .write(true)
            .open(file)
            .unwrap();
        let mut page = vec![0; usize::try_from(self.page_size).unwrap()];
        let start = |page: u64| (page - 1) * self.page_size;
        file.read_exact_at(&mut page, start(self.root)).unwrap();
        // The children of the root: the number of each begins its cell (SQLite, "B-tree Pages").
        assert_eq!(page[0], 5, "the root has children");
        let cells = u16::from_be_bytes([page[3], page[4]]);
        for cell in 0..usize::from(cells) {
            let pointer = &page[12 + 2 * cell..][..2];
            let at = usize::from(u16::from_be_bytes(pointer.try_into().unwrap()));
            let child = u32::from_be_bytes(page[at..at + 4].try_into().unwrap());
            file.write_all_at(&vec![0xff; page.len()], start(child.into()))
                .unwrap();
        }
    }
}
