//! The rotation of a group's password: which step comes next, and what stands in the way. Pure.
//!
//! The next step is a function of what the group shows now, not of how far a record says that we came: a step that took
//! effect before a crash is seen and not repeated, one that did not is made. The record says only which rotation it is.
//! What cannot be read back (a Sentinel's password, a proof) is done again by whoever resumes; each such step may be.
//!
//! An abort is the same rotation with the two passwords exchanged, so there is one order of steps and one set of rules:
//!
//! 1. no password is shown before every node accepts it (the primary learns it last, so that an agent that finds it
//!    accepted there may count on the others);
//! 2. no password is refused anywhere before every node and every Sentinel shows the other, and that was proved;
//! 3. nobody goes on from a node whose files may be behind what it runs with: a restart would undo rule 1 there.
//!
//! Not here: reading the group (`collect::rotation`), changing it (`act::rotation`), the record (`ledger`).

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeSet;

use crate::model::Endpoint;
use crate::model::rotation::{Held, RotationView, Step, Subject};

mod obstacles;
mod subject;

pub use obstacles::{Stage, obstacles};
pub use subject::subject;

/// What one run has behind it, and how far it shall go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub done: BTreeSet<Step>,
    /// Steps of an abort that could not be made. A rotation forward ends at its first.
    pub failed: BTreeSet<Step>,
    /// Stop before the former password is removed.
    pub keep_former: bool,
    /// No Sentinel was ever given the other password, so none has to be told again.
    pub sentinels_untouched: bool,
    /// Nodes on which a change was made, or begun, whose files may not have it: a process that was killed in the middle
    /// of a step, or a file that could not be written. A restart there would bring back a node that refuses the others.
    pub unkept: BTreeSet<Endpoint>,
    /// Nodes that cannot be reached now are known to accept the password to come.
    pub unseen_accept: bool,
}

impl Progress {
    /// A step went well. Files that are written behind a step that was cut short are written again at the end.
    pub fn made(&mut self, step: Step) {
        match &step {
            Step::Keep { node } if self.unkept.remove(node) => {}
            _ => _ = self.done.insert(step),
        }
    }

    /// A step did not go well. It may have taken effect all the same, but for its files.
    pub fn cut_short(&mut self, step: &Step) {
        if let Step::Allow { node } | Step::Present { node } = step {
            self.unkept.insert(node.clone());
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    Step(Step),
    /// Both passwords stay valid: what is missing before the former one may be removed, or that it shall stay.
    Stay(String),
    Finished,
}

/// The step that the group needs next.
pub fn next(subject: &Subject, view: &RotationView, progress: &Progress) -> Next {
    let open = |step: &Step| !progress.failed.contains(step) && (is_seen(step) || !progress.done.contains(step));
    if let Some(step) = allow(subject, view).into_iter().find(&open) {
        return Next::Step(step);
    }
    let unkept = progress.unkept.iter().filter(|node| view.node(node).is_some());
    if let Some(step) = unkept.map(|node| Step::Keep { node: node.clone() }).find(&open) {
        return Next::Step(step);
    }
    if let Some(reason) = reason_to_show_nothing(view, progress) {
        return Next::Stay(reason);
    }
    let proofs = [Some(Step::Login), reconnect(subject, view, progress)];
    let shown = show(subject, view, progress).into_iter().chain(proofs.into_iter().flatten());
    if let Some(step) = shown.into_iter().find(&open) {
        return Next::Step(step);
    }
    if let Some(reason) = reason_to_stay(subject, view, progress) {
        return Next::Stay(reason);
    }
    let nodes = view.in_order();
    let retire = nodes.iter().filter(|(_, says)| {
        let stale = subject.user == "default" && matches!(says.requirepass, Held::From | Held::Other);
        !subject.single && (says.user.accepts_from || stale)
    });
    let retire = retire.map(|(node, _)| Step::Retire { node: (*node).clone() });
    let keep = nodes.iter().map(|(node, _)| Step::Keep { node: (*node).clone() });
    match retire.chain([Step::Refused]).chain(keep).chain([Step::Quorum]).find(&open) {
        Some(step) => Next::Step(step),
        None => Next::Finished,
    }
}

/// Whether the group itself shows that the step was made, so that nothing has to be remembered of it.
fn is_seen(step: &Step) -> bool {
    matches!(step, Step::Allow { .. } | Step::Present { .. } | Step::Retire { .. })
}

fn allow(subject: &Subject, view: &RotationView) -> Vec<Step> {
    let nodes = view.in_order();
    let lacking = nodes.iter().filter(|(_, says)| !subject.single && !says.user.accepts_to);
    lacking.map(|(node, _)| Step::Allow { node: (*node).clone() }).collect()
}

/// Why nobody may show the password to come yet: somewhere it might be refused.
fn reason_to_show_nothing(view: &RotationView, progress: &Progress) -> Option<String> {
    let failed: Vec<String> =
        progress.failed.iter().filter(|step| matches!(step, Step::Allow { .. })).map(Step::describe).collect();
    if !failed.is_empty() {
        return Some(format!("not done: {}", failed.join("; ")));
    }
    let unseen: Vec<String> = unseen_nodes(view).collect();
    (!unseen.is_empty() && !progress.unseen_accept).then(|| format!("not reached: {}", unseen.join(", ")))
}

fn unseen_nodes(view: &RotationView) -> impl Iterator<Item = String> {
    view.nodes.iter().filter(|node| node.says.seen().is_none()).map(|node| format!("node {}", node.address))
}

/// The steps after which links and Sentinels log in with the password to come.
fn show(subject: &Subject, view: &RotationView, progress: &Progress) -> Vec<Step> {
    let nodes = view.in_order();
    let behind = |held: Held| subject.replicates && held != Held::To;
    if subject.single {
        let stale =
            nodes.iter().any(|(_, says)| !says.user.accepts_to || says.user.accepts_from || behind(says.masterauth));
        // Once a run, whatever the nodes show: what the Sentinels hold cannot be read.
        return if stale || subject.watches { vec![Step::Switch] } else { Vec::new() };
    }
    let present = nodes.iter().filter(|(_, says)| behind(says.masterauth));
    let mut steps: Vec<Step> = present.map(|(node, _)| Step::Present { node: (*node).clone() }).collect();
    if subject.watches && !progress.sentinels_untouched {
        steps.extend(view.sentinels.iter().map(|sentinel| Step::Tell { sentinel: sentinel.endpoint.clone() }));
    }
    steps
}

/// One replica, the same one for as long as it is there.
fn reconnect(subject: &Subject, view: &RotationView, progress: &Progress) -> Option<Step> {
    let tried = progress.done.iter().chain(&progress.failed).find(|step| matches!(step, Step::Reconnect { .. }));
    if !subject.replicates || tried.is_some() {
        return tried.cloned();
    }
    let replicas = view.in_order();
    let replica = replicas.iter().find(|(_, says)| says.follows.is_some() && says.link_up);
    replica.map(|(address, _)| Step::Reconnect { replica: (*address).clone() })
}

/// Why the former password has to stay valid for now.
fn reason_to_stay(subject: &Subject, view: &RotationView, progress: &Progress) -> Option<String> {
    if !progress.failed.is_empty() {
        let failed: Vec<String> = progress.failed.iter().map(Step::describe).collect();
        return Some(format!("not done: {}", failed.join("; ")));
    }
    let sentinels = view.sentinels.iter().filter(|sentinel| sentinel.says.seen().is_none());
    let unseen: Vec<String> =
        unseen_nodes(view).chain(sentinels.map(|it| format!("Sentinel {}", it.endpoint))).collect();
    if !unseen.is_empty() {
        return Some(format!("not reached: {}", unseen.join(", ")));
    }
    let kept = progress.keep_former && !subject.single;
    kept.then(|| "both passwords are accepted, until the rotation is resumed".to_owned())
}

/// All the steps from here to the end, as they would be if each of them works.
pub fn steps(subject: &Subject, view: &RotationView, progress: &Progress) -> Vec<Step> {
    let (mut view, mut progress) = (view.clone(), progress.clone());
    let mut steps = Vec::new();
    while let Next::Step(step) = next(subject, &view, &progress) {
        effect(&mut view, &step);
        progress.made(step.clone());
        steps.push(step);
    }
    steps
}

/// What a step changes, when it works.
fn effect(view: &mut RotationView, step: &Step) {
    for node in &mut view.nodes {
        let is_meant = match step {
            Step::Allow { node: at } | Step::Present { node: at } | Step::Retire { node: at } => node.address == *at,
            Step::Switch => true,
            _ => false,
        };
        let crate::model::evidence::Reading::Seen(says) = &mut node.says else { continue };
        if !is_meant {
            continue;
        }
        if matches!(step, Step::Allow { .. } | Step::Switch) {
            says.user.accepts_to = true;
        }
        if matches!(step, Step::Present { .. } | Step::Switch) {
            says.masterauth = Held::To;
        }
        if matches!(step, Step::Retire { .. } | Step::Switch) {
            says.user.accepts_from = false;
            says.requirepass = if says.requirepass == Held::Unset { Held::Unset } else { Held::To };
        }
    }
}

#[cfg(test)]
mod tests;
