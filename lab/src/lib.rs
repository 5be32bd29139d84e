//! The lab: real servers and real faults, for relinkd's tests, its demo and its benches. Never published.
//!
//! A [`Group`] is a primary, replicas and Sentinels in private directories, on loopback ports of the lab's choice or in
//! a network of namespaces that the lab made. A [`Fault`] breaks something and knows the way back. An [`Agent`] is a
//! relinkd beside a server, a [`Receiver`] takes the messages.
//!
//! Invariant: nothing is left behind, however the process ends, and nothing outside the lab's own processes,
//! directories, mounts and namespaces is touched. See [`mod@sweep`].
//!
//! [`demo`], [`bench`] and [`mod@faults`] are made of these.
//!
//! Blocking throughout: std and threads. What is *not* here: any knowledge of relinkd's insides, and any assertion.
//!
//! ```no_run
//! use lab::{Group, Kind, fault};
//! let Some(kind) = lab::require(Kind::Redis70) else { return };
//! let group = Group::builder(kind).replicas(1).sentinels(3).password("old").start().unwrap();
//! let rotated = fault::rotate_password(group.primary(), "new").unwrap();
//! // … the replica's link is down now, WRONGPASS in its log …
//! rotated.undo().unwrap();
//! ```

mod agent;
mod disk;
mod distance;
mod figures;
mod group;
mod impostor;
mod kind;
mod link;
mod looks;
mod moto;
mod namespace;
mod openbao;
mod port;
mod process;
mod receiver;
mod scene;
mod sentinel;
mod server;
mod tls;
pub mod rotations;
pub mod traffic;
pub mod bench;
pub mod chaos;
pub mod demo;
pub mod fault;
pub mod flapping;
pub mod faults;
pub mod ailment;
pub mod transfer;
pub mod sweep;
pub mod upgrade;

pub use agent::Agent;
pub use disk::SmallDisk;
pub use fault::Fault;
pub use group::{Builder, Group, Node};
pub use impostor::{Impostor, Manner, closed_port};
pub use kind::{Binaries, Kind, ansible, require, require_namespaces, skip};
pub use moto::Moto;
pub use namespace::{Host, namespaces_available};
pub use openbao::OpenBao;
pub use port::Port;
pub use receiver::{Answer, Receiver, Request};
pub use rustix::process::Signal;
pub use sentinel::GROUP_NAME;
pub use server::Server;
pub use sweep::Place;
pub use tls::{Certificates, Pair};
