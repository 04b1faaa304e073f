//! The files of an installation, and its secrets.
