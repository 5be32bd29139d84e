//! The record: entries, outbox, retention, in one SQLite file.
