//! The record on real files: order, retention, damage, locks, full and read-only disks, two processes.

#[path = "ledger/entries.rs"]
mod entries;
#[path = "ledger/files.rs"]
mod files;
#[path = "ledger/kit.rs"]
mod kit;
#[path = "ledger/outbox.rs"]
mod outbox;
#[path = "ledger/processes.rs"]
mod processes;
#[path = "ledger/retention.rs"]
mod retention;
