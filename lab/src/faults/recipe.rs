//! One fault as the matrix knows it: where it happens, how it is made, what relinkd should say, and how soon anybody
//! could know.

use std::io::Result;
use std::time::{Duration, Instant};

use super::score::Expected;
use super::stage::{Stage, Stand};
use crate::fault::Fault;
use crate::kind::Kind;

/// A fault that stands, and since when.
pub struct Broken {
    pub fault: Fault,
    pub at: Instant,
}

impl Broken {
    pub fn since(at: Instant, fault: Fault) -> Result<Broken> {
        Ok(Broken { fault, at })
    }
}

pub struct Recipe {
    pub expected: Expected,
    /// Which of the ways to this cause.
    pub variant: &'static str,
    pub stage: Stage,
    pub inject: fn(&Stand) -> Result<Broken>,
    /// When the evidence for a firm verdict can be there, at the earliest.
    pub bound: Duration,
    pub why: &'static str,
    /// The group is of no use afterwards.
    pub spends: bool,
    /// It is made only once the Sentinels have begun a failover, and so long after they could they may.
    pub failover_within: Option<Duration>,
    /// Why this server cannot have it.
    pub lacks: fn(Kind) -> Option<String>,
}

impl Recipe {
    /// Known at once.
    pub const fn of(
        cause: &'static str,
        variant: &'static str,
        stage: Stage,
        inject: fn(&Stand) -> Result<Broken>,
    ) -> Recipe {
        Recipe::with(Some(cause), variant, stage, inject)
    }

    /// What is no fault.
    pub const fn quiet(variant: &'static str, stage: Stage, inject: fn(&Stand) -> Result<Broken>) -> Recipe {
        Recipe::with(None, variant, stage, inject)
    }

    const fn with(
        cause: Option<&'static str>,
        variant: &'static str,
        stage: Stage,
        inject: fn(&Stand) -> Result<Broken>,
    ) -> Recipe {
        Recipe {
            expected: Expected { cause, also: &[], suspects: &[] },
            variant,
            stage,
            inject,
            bound: Duration::ZERO,
            why: "",
            spends: false,
            failover_within: None,
            lacks: |_| None,
        }
    }

    pub const fn also(mut self, causes: &'static [&'static str]) -> Recipe {
        self.expected.also = causes;
        self
    }

    pub const fn suspects(mut self, causes: &'static [&'static str]) -> Recipe {
        self.expected.suspects = causes;
        self
    }

    pub const fn after(mut self, bound_ms: u64, why: &'static str) -> Recipe {
        self.bound = Duration::from_millis(bound_ms);
        self.why = why;
        self
    }

    pub const fn spends(mut self) -> Recipe {
        self.spends = true;
        self
    }

    pub const fn failover_within(mut self, ms: u64) -> Recipe {
        self.failover_within = Some(Duration::from_millis(ms));
        self
    }

    pub const fn lacks(mut self, lacks: fn(Kind) -> Option<String>) -> Recipe {
        self.lacks = lacks;
        self
    }

    pub fn cause(&self) -> &'static str {
        self.expected.cause.unwrap_or("no fault")
    }

    pub fn name(&self) -> String {
        format!("{}: {}", self.cause(), self.variant)
    }

    /// Why it cannot happen on this machine with this server.
    pub fn missing(&self, kind: Kind) -> Option<String> {
        self.stage.missing(kind).or_else(|| (self.lacks)(kind))
    }
}
