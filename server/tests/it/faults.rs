//! Tests what must hold when the clock is wrong, the disk is full or an operator errs: the group "Faults" of
//! docs/conformance/cases.md, a file per section.

mod clock;
mod commands;
mod documents;
mod files;
mod floods;
mod start;
mod storage;
mod tokens;
