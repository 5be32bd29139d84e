//! The login of the replica, of the Sentinels, and TLS below it.

use std::fs;
use std::io::{Error, Result};
use std::time::Instant;

use super::{BACKGROUND, BACKGROUND_MS, PROBE, PROBE_MS, kept};
use crate::ailment;
use crate::fault::{self, Fault};
use crate::faults::recipe::{Broken, Recipe};
use crate::faults::stage::{Stage, Stand, USER};
use crate::group::Group;
use crate::tls::{Certificates, Pair};
use crate::transfer;

const NEW: &str = "another-word";
/// True for the moment between the change and the end of the connection.
const LATENT: &[&str] = &["auth-latent"];
const ALERT_MS: u64 = 10_000;
const ALERT: &str = "an attempt, one a second, in which the alert is read before the reset that follows it";

pub const ALL: [Recipe; 18] = [
    Recipe::of("tls-mismatch", "plain into TLS", Stage::Tls, plain_into_tls),
    Recipe::of("tls-mismatch", "TLS into plain", Stage::Tls, tls_into_plain).after(PROBE_MS, PROBE),
    Recipe::of("tls-certificate", "expired", Stage::Tls, |stand| shows(stand, Certificates::expired)),
    Recipe::of("tls-certificate", "of a stranger", Stage::Tls, |stand| shows(stand, Certificates::untrusted)),
    Recipe::of("tls-certificate", "of the replica, expired", Stage::Tls, |stand| refuses(stand, Certificates::expired))
        .after(ALERT_MS, ALERT),
    Recipe::of("tls-certificate", "of the replica, of a stranger", Stage::Tls, |stand| {
        refuses(stand, Certificates::untrusted)
    })
    .after(ALERT_MS, ALERT),
    Recipe::quiet("a certificate for another name", Stage::Tls, |stand| shows(stand, Certificates::for_another_name)),
    Recipe::of("auth-missing", "masterauth emptied", Stage::Password, missing),
    Recipe::of("auth-rejected", "rotated on the primary only", Stage::Password, rotated).also(LATENT),
    Recipe::of("auth-rejected", "user switched off", Stage::User, |stand| user(fault::user_off(stand.primary(), USER)))
        .also(LATENT),
    Recipe::of("auth-rejected", "user deleted", Stage::User, |stand| user(fault::user_deleted(stand.primary(), USER)))
        .also(LATENT),
    Recipe::of("auth-unexpected", "the primary lost its password", Stage::Password, unexpected),
    Recipe::of("auth-forbidden", "short of psync", Stage::User, |stand| without(stand, "psync")),
    Recipe::quiet("a user short of ping", Stage::User, |stand| without(stand, "ping")),
    Recipe::of("auth-latent", "rotated, and the link stands", Stage::Password, latent).after(BACKGROUND_MS, BACKGROUND),
    Recipe::of("auth-latent", "user switched off, and the link stands", Stage::User, latent_user)
        .after(BACKGROUND_MS, BACKGROUND),
    Recipe::of("replconf-refused", "short of replconf", Stage::User, |stand| without(stand, "replconf")),
    Recipe::of("sentinel-auth-rejected", "a stale auth-pass everywhere", Stage::Guarded, sentinels)
        .after(8_000, "down-after (2 s here), a PING period, and five seconds that tell it from other troubles"),
];

fn plain_into_tls(stand: &Stand) -> Result<Broken> {
    let plain = fault::configure(stand.replica(), &[("tls-replication", "no")])?;
    let at = Instant::now();
    transfer::reconnect(stand.replica())?;
    Broken::since(at, plain)
}

fn tls_into_plain(stand: &Stand) -> Result<Broken> {
    let plain = Group::builder(stand.group.kind()).start()?;
    let (host, port) = plain.primary().endpoint();
    let at = Instant::now();
    let moved = fault::wrong_primary(stand.replica(), &host, port)?;
    Broken::since(at, kept(plain).and(moved))
}

fn shows(stand: &Stand, make: fn(&Certificates) -> Result<Pair>) -> Result<Broken> {
    let certificates = stand.group.certificates().ok_or_else(|| Error::other("the group has no certificates"))?;
    let pair = make(certificates)?;
    let other = certificates.shown_by(stand.primary(), &pair)?;
    let at = Instant::now();
    transfer::reconnect(stand.replica())?;
    Broken::since(at, other)
}

/// The primary asks for a certificate, and does not take the replica's.
fn refuses(stand: &Stand, make: fn(&Certificates) -> Result<Pair>) -> Result<Broken> {
    let certificates = stand.group.certificates().ok_or_else(|| Error::other("the group has no certificates"))?;
    let other = certificates.shown_to(stand.primary(), stand.replica(), &make(certificates)?)?;
    let at = Instant::now();
    transfer::reconnect(stand.replica())?;
    Broken::since(at, other)
}

fn missing(stand: &Stand) -> Result<Broken> {
    let empty = fault::configure(stand.replica(), &[("masterauth", "")])?;
    let at = Instant::now();
    fault::cut_replicas(stand.primary())?;
    Broken::since(at, empty)
}

fn rotated(stand: &Stand) -> Result<Broken> {
    let at = Instant::now();
    Broken::since(at, fault::rotate_password(stand.primary(), NEW)?)
}

fn unexpected(stand: &Stand) -> Result<Broken> {
    let none = ailment::change_password(stand.primary(), "")?;
    let at = Instant::now();
    fault::cut_replicas(stand.primary())?;
    Broken::since(at, none)
}

fn latent(stand: &Stand) -> Result<Broken> {
    let at = Instant::now();
    Broken::since(at, ailment::change_password(stand.primary(), NEW)?)
}

fn latent_user(stand: &Stand) -> Result<Broken> {
    let primary = stand.primary().clone();
    let at = Instant::now();
    fault::run(&primary, &["ACL", "SETUSER", USER, "off"])?;
    let on = Fault::new("user switched off", move || fault::run(&primary, &["ACL", "SETUSER", USER, "on"]));
    Broken::since(at, on)
}

/// These cut the replicas' connections as their last act.
fn user(changed: Result<Fault>) -> Result<Broken> {
    Broken::since(Instant::now(), changed?)
}

fn without(stand: &Stand, command: &str) -> Result<Broken> {
    user(fault::user_without(stand.primary(), USER, command))
}

fn sentinels(stand: &Stand) -> Result<Broken> {
    let (file, old) = (stand.login(), stand.group.password().unwrap_or_default().to_owned());
    let behind = fault::sentinels_left_behind(&stand.group, NEW)?;
    fs::write(&file, NEW)?;
    let at = Instant::now();
    stand.group.nodes().iter().try_for_each(fault::cut_clients)?;
    Broken::since(at, Fault::new("relinkd's own password", move || fs::write(&file, &old)).and(behind))
}
