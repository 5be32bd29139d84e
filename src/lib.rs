//! relinkd names the cause of a broken replication link, heals it where that is safe, and proves it.
//!
//! Data flows one way through the modules, which stand here in that order:
//!
//! ```text
//! watch ─▶ daemon ─▶ agent ─▶ collect ─▶ diagnose ─▶ decide ─▶ ledger ─▶ act ─▶ ledger ─▶ notify
//! ```
//!
//! | module | may import | colour |
//! |---|---|---|
//! | `model` | nothing of ours | pure |
//! | `diagnose` | `model` | pure |
//! | `decide` | `model`, `diagnose` (what a look says, read in one place) | pure |
//! | `audit` | `model` | pure |
//! | `rotate` | `model` | pure |
//! | `agent` | `model`, `diagnose`, `decide` | pure |
//! | `secrets` | `model` | IO |
//! | `wire` | `model`, `secrets` | IO (`wire::reply` pure) |
//! | `watch`, `collect` | `model`, `wire`, `secrets`: never `wire::Writer` | IO, reads |
//! | `act` | `model`, `wire`, `secrets` | IO, writes |
//! | `ledger` | `model` | IO, its own file |
//! | `notify` | `model`, `secrets` | IO (`notify::render` pure) |
//! | `control` | `model` | IO |
//! | `config` | the settings type that each module owns | reads files |
//! | `daemon` | all but `cli`; the only place that spawns tasks | assembly |
//! | `cli` | all | assembly |
//!
//! `tests/tidy.rs` reads the source and holds us to this table.

pub mod model;
pub mod diagnose;
pub mod decide;
pub mod audit;
pub mod rotate;
pub mod agent;
pub mod secrets;
pub mod wire;
pub mod watch;
pub mod collect;
pub mod act;
pub mod ledger;
pub mod notify;
pub mod control;
pub mod config;
pub mod daemon;
pub mod cli;
