//! Watches what a server holds while it is flooded: memory, its own and that of its sockets, and disk.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use crate::failure::Failure;

/// The connections of a port of this machine, those on the server's side alone.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Sockets {
    /// Those that have an end in some process, or data that the kernel still wants to deliver.
    pub(super) connections: u64,
    /// Bytes of memory: what the kernel charges to them for data, and [`STRUCTURES`] for each.
    pub(super) bytes: u64,
}

/// An upper bound on what the kernel keeps of a socket beside its data: the socket, its file and their entries.
const STRUCTURES: u64 = 4096;

impl Sockets {
    /// Looks at those whose local port it is. The other end, the client's, belongs to another machine in earnest.
    pub(super) fn of(port: u16) -> Result<Self, Failure> {
        let output = Command::new("ss")
            .args(["-tnmHO", "state", "connected", "exclude", "time-wait"])
            .args(["sport", "=", &format!(":{port}")])
            .output()
            .map_err(|error| Failure(format!("ss, of iproute2, can't be started: {error}")))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(Failure(format!("ss: {}", said.trim())));
        }
        Ok(Self::listed(&String::from_utf8_lossy(&output.stdout)))
    }

    /// Reads lines that end in `skmem:(r0,rb131072,t0,tb87040,f0,w0,o0,bl0,d0)` (ss(8)).
    fn listed(lines: &str) -> Self {
        let mut sockets = Self::default();
        for line in lines.lines().filter(|line| !line.trim().is_empty()) {
            let memory = line.split_once("skmem:(").map_or("", |(_, memory)| memory);
            let charged = memory.trim_end_matches([')', ' ']).split(',');
            // They count what was received, what is reserved, what is to be sent or acknowledged, options, the backlog.
            let bytes = charged.filter_map(|field| {
                let digits = field.find(|c: char| c.is_ascii_digit())?;
                let (name, bytes) = field.split_at(digits);
                let is_held = ["r", "f", "w", "o", "bl"].contains(&name);
                is_held.then(|| bytes.parse::<u64>().ok())?
            });
            sockets.connections += 1;
            sockets.bytes += bytes.sum::<u64>() + STRUCTURES;
        }
        sockets
    }
}

/// Returns the bytes that the files of a directory take on the disk.
pub(super) fn disk(directory: &Path) -> Result<u64, Failure> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        // A file may go between the two.
        bytes += entry?.metadata().map_or(0, |file| 512 * file.blocks());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_sockets_is_what_is_charged_and_not_what_may_be() {
        let listed = Sockets::listed(
            "ESTAB 0      0      127.0.0.1:31652 127.0.0.1:44616 skmem:(r0,rb131072,t0,tb3939840,f0,w0,o0,bl0,d0)      \n\
             ESTAB 0      522    127.0.0.1:31652 127.0.0.1:44664 skmem:(r100,rb131072,t7,tb3939840,f2742,w1354,o5,bl3,d9)\n",
        );
        assert_eq!(listed.connections, 2);
        assert_eq!(listed.bytes, 2 * 4096 + 100 + 2742 + 1354 + 5 + 3);
        assert_eq!(Sockets::listed("\n"), Sockets::default());
    }
}
