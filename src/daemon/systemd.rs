//! READY, STATUS, WATCHDOG, RELOADING, STOPPING. Without systemd every call does nothing.

use std::time::Duration;

use sd_notify::NotifyState;

/// Says a thing to systemd; that nobody listens is no error.
fn say(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("systemd was not told: {error}");
    }
}

pub fn ready(sentence: &str) {
    say(&[NotifyState::Ready, NotifyState::Status(sentence)]);
}

pub fn status(sentence: &str) {
    say(&[NotifyState::Status(sentence)]);
}

pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => say(&[NotifyState::Reloading, now]),
        Err(_) => say(&[NotifyState::Reloading]),
    }
}

pub fn stopping() {
    say(&[NotifyState::Stopping, NotifyState::Status("stopping: finishing the step in flight")]);
}

pub fn alive() {
    say(&[NotifyState::Watchdog]);
}

/// How often to say that we live: half of what systemd allows.
pub fn watchdog_period() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}
