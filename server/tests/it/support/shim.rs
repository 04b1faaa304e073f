//! Libraries that stand between the real binary and the C library, compiled by the test that needs one.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles a library in C, to be named in `LD_PRELOAD`.
pub(crate) fn shim(directory: &Path, source: &str) -> PathBuf {
    let (file, library) = (directory.join("shim.c"), directory.join("shim.so"));
    std::fs::write(&file, source).unwrap();
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-Wall", "-Werror", "-o"])
        .args([&library, &file])
        .arg("-ldl")
        .status()
        .unwrap();
    assert!(compiled.success());
    library
}
