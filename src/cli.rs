//! The command line: clap types and dispatch.
