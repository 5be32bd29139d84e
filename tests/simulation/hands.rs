//! Carries out a step in the toy world, as `act` does in the real one: the precondition read once more, then the change.

use relinkd::model::Endpoint;
use relinkd::model::evidence::{AFTERMATH, SentinelSays};
use relinkd::model::remedy::{Change, Outcome, Precondition, Step};
use relinkd::model::turn::{Clock, all_in_sight};

use super::look::{print, sentinel_at, target, target_at};
use super::world::{HOSTS, Link, Process, Target, Way, World};

/// What the hands of one run remember: the former password, for the undo.
pub type Former = Option<u32>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    All,
    /// The link is left alone.
    LoginAlone,
}

impl World {
    /// Why the step may not be made any more.
    pub fn moved(&self, host: usize, expect: &Precondition) -> Option<String> {
        let wanted =
            expect.sentinels_name.is_some() || expect.no_failover || expect.primary_down || expect.turn.is_some();
        if wanted {
            let heard: Vec<usize> =
                (0..HOSTS).filter(|other| self.path(host, *other) && self.sentinels[*other].up).collect();
            let need = HOSTS / 2 + 1;
            let votes = |fits: &dyn Fn(usize) -> bool| heard.iter().filter(|other| fits(**other)).count() >= need;
            if heard.len() < need {
                return Some("too few Sentinels answer".into());
            }
            let busy =
                |other: usize| self.sentinels[other].failover.is_some() || self.now < self.sentinels[other].tilt_until;
            if expect.no_failover && heard.iter().any(|other| busy(*other)) {
                return Some("a failover runs, or TILT".into());
            }
            if expect.no_failover && self.names_another_now(&heard, expect.sentinels_name.as_ref()) {
                return Some("a Sentinel names another since a moment ago".into());
            }
            if let Some(named) = &expect.sentinels_name
                && !votes(&|other| target_at(named) == Target::Node(self.sentinels[other].primary))
            {
                return Some("the Sentinels name another".into());
            }
            if expect.primary_down && !votes(&|other| self.sentinels[other].s_down.is_some()) {
                return Some("the Sentinels see the primary".into());
            }
            let says: Vec<SentinelSays> = heard.iter().map(|other| self.says(*other)).collect();
            if let Some(first_ms) = expect.in_sight
                && let Err(unsure) = all_in_sight(&says.iter().collect::<Vec<_>>(), first_ms, Clock::Agreed)
            {
                return Some(unsure.to_string());
            }
            if let Some(turn) = &expect.turn
                && says.iter().filter(|says| turn.granted_by(says)).count() < need
            {
                return Some("the turn is not ours any more".into());
            }
        }
        self.moved_here(host, expect)
    }

    fn names_another_now(&self, heard: &[usize], named: Option<&Endpoint>) -> bool {
        let names = |other: usize| Target::Node(self.sentinels[other].primary);
        let ours = || heard.iter().filter(|other| named.is_none_or(|named| names(**other) == target_at(named)));
        let young = |other: usize| self.now.since(self.sentinels[other].role_since) < AFTERMATH;
        heard.iter().any(|other| young(*other) && ours().any(|one| names(*one) != names(*other)))
    }

    /// How much of a step may be made. An undo puts the login back also where the Sentinels are at work, and then no more
    /// than that.
    pub fn reach(&self, host: usize, step: &Step) -> Result<Reach, String> {
        let Some(moved) = self.moved(host, &step.expect) else { return Ok(Reach::All) };
        if !matches!(step.change, Change::RestoreAuth { .. }) {
            return Err(moved);
        }
        let here = Precondition { sentinels_name: None, no_failover: false, ..step.expect.clone() };
        self.moved(host, &here).map_or(Ok(Reach::LoginAlone), Err)
    }

    fn moved_here(&self, host: usize, expect: &Precondition) -> Option<String> {
        let node = &self.nodes[host];
        let leads = expect.leads_up_to.is_some();
        let local = expect.run_id.is_some() || expect.replica_of.is_some() || expect.link_down || leads;
        if !local {
            return None;
        }
        if node.process != Process::Up {
            return Some("the local server does not answer".into());
        }
        if expect.run_id.as_ref().is_some_and(|run| *run != format!("run-{host}-{}", node.run)) {
            return Some("restarted".into());
        }
        if let Some(limit) = expect.leads_up_to {
            let moved = node.follows.is_some() || node.offset > limit;
            return if moved {
                Some("no primary any more, or it wrote more".into())
            } else {
                self.no_primary(host, expect)
            };
        }
        if expect.still_primary {
            return node.follows.is_some().then(|| "not the primary any more".into());
        }
        let Some(followed) = node.follows else { return Some("not a replica any more".into()) };
        if expect.replica_of.as_ref().is_some_and(|of| *of != target(followed)) {
            return Some("it follows another".into());
        }
        if expect.link_down && node.link_up() {
            return Some("the link is up again".into());
        }
        if expect.not_syncing && matches!(node.link, Link::Syncing { .. }) {
            return Some("a data set is on its way".into());
        }
        self.no_primary(host, expect)
    }

    fn no_primary(&self, host: usize, expect: &Precondition) -> Option<String> {
        let primary = |endpoint: &Endpoint| match self.way(host, target_at(endpoint)) {
            Way::Open(to) => {
                self.nodes[to].follows.is_none() && self.nodes[to].requirepass == self.nodes[host].masterauth
            }
            _ => false,
        };
        expect.is_primary.as_ref().filter(|endpoint| !primary(endpoint)).map(|_| "no primary there".into())
    }

    /// The change itself; `ProveLink` is not one.
    pub fn change(&mut self, host: usize, step: &Step, reach: Reach, former: &mut Former) -> Outcome {
        let done = || Outcome::Changed("done".into());
        if self.nodes[host].process != Process::Up && !matches!(step.change, Change::RequestFailover { .. }) {
            return Outcome::Failed("the local server: connection refused".into());
        }
        match &step.change {
            Change::RealignAuth { print: wanted, bounce_to, .. } => {
                let Some(version) = self.offered(wanted) else {
                    return Outcome::PreconditionGone("the store does not offer it any more".into());
                };
                *former = Some(self.nodes[host].masterauth);
                self.nodes[host].masterauth = version;
                self.follow(host, target_at(bounce_to));
                done()
            }
            Change::PresetAuth { print: wanted, .. } => match self.offered(wanted) {
                Some(version) => {
                    self.nodes[host].masterauth = version;
                    done()
                }
                None => Outcome::PreconditionGone("the store does not offer it any more".into()),
            },
            Change::RestoreAuth { bounce_to } => match former.take() {
                Some(version) => {
                    self.nodes[host].masterauth = version;
                    if reach == Reach::All {
                        self.follow(host, target_at(bounce_to));
                    }
                    done()
                }
                None => Outcome::Failed("the former password is not known any more".into()),
            },
            Change::BounceLink { to } | Change::Repoint { to, .. } => {
                self.follow(host, target_at(to));
                done()
            }
            Change::RequestFailover { sentinels, .. } => self.request(host, sentinels),
            Change::Persist => {
                self.nodes[host].masterauth_on_disk = self.nodes[host].masterauth;
                done()
            }
            Change::ProveLink => unreachable!("it is waited for"),
        }
    }

    fn offered(&self, wanted: &str) -> Option<u32> {
        self.store.offers.iter().copied().find(|version| self.store.works && print(*version) == wanted)
    }

    fn request(&mut self, host: usize, sentinels: &[Endpoint]) -> Outcome {
        let reached = |other: &usize| self.path(host, *other) && self.sentinels[*other].up;
        let Some(asked) = sentinels.iter().map(sentinel_at).find(reached) else {
            return Outcome::Failed("no Sentinel could be reached".into());
        };
        if self.sentinels[asked].failover.is_some() {
            return Outcome::AlreadySo("INPROG".into());
        }
        match self.begin_failover(asked, Some(host)) {
            Some(_) => Outcome::Changed("a Sentinel took the request".into()),
            None => Outcome::Failed("NOGOODSLAVE".into()),
        }
    }
}
