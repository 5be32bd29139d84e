//! One group under rotation: whom to dial, with what, and which two passwords are meant.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::keys::{self, Stocked};
use crate::act::rotation::{Password, RotationHands};
use crate::cli::{Exit, Failure};
use crate::collect::group::GroupTarget;
use crate::collect::rotation::{self, Admin, AdminLogin, Group, Key, Pair};
use crate::config::{GroupSettings, Settings};
use crate::daemon::clock::Clock;
use crate::daemon::{LEDGER, group_dials};
use crate::decide::Persist;
use crate::ledger::{Ledger, LedgerError, Retention};
use crate::model::incident::IncidentId;
use crate::model::people::{Pause, Scope};
use crate::model::remedy::RefusalCode;
use crate::model::rotation::{Held, Obstacle, Rotation, RotationRecord, RotationView, Subject, Way};
use crate::model::{Address, Endpoint, Timestamp};
use crate::secrets::{Salt, Secret};
use crate::wire::Dial;

pub struct Session<'a> {
    settings: &'a Settings,
    pub group: String,
    of_group: &'a GroupSettings,
    wanted_user: Option<String>,
    pub clock: Clock,
    pub salt: Salt,
    target: Option<GroupTarget>,
    stocked: Vec<Stocked>,
    /// Secrets that could not be fetched.
    pub unfetched: Vec<String>,
    chosen: Option<Stocked>,
    /// ACL user on the nodes.
    pub user: String,
    subject: Option<Subject>,
    pair: Option<Pair>,
    /// The login that each node took last, and the nodes that accept the password to come.
    took: BTreeMap<Endpoint, AdminLogin>,
    accept: BTreeSet<Endpoint>,
}

impl<'a> Session<'a> {
    pub fn new(settings: &'a Settings, group: Option<&str>, user: Option<&str>) -> Result<Session<'a>, Failure> {
        let group = crate::cli::audit::chosen(settings, group)?;
        let Some(of_group) = settings.groups.get(&group) else {
            return Err(Failure::new(Exit::Usage, format!("no group is called {group:?}")));
        };
        Ok(Session {
            settings,
            group,
            of_group,
            wanted_user: user.map(str::to_owned),
            clock: Clock::start(),
            salt: Salt::load(&settings.agent.state_dir).unwrap_or_else(|_| Salt::fleeting()),
            target: None,
            stocked: Vec::new(),
            unfetched: Vec::new(),
            chosen: None,
            user: String::new(),
            subject: None,
            pair: None,
            took: BTreeMap::new(),
            accept: BTreeSet::new(),
        })
    }

    /// Before anything is recorded: the fingerprints of a rotation are compared again by whoever resumes it.
    pub fn keep_salt(&mut self) -> Result<(), Failure> {
        self.salt = Salt::load_or_create(self.state_dir())
            .map_err(|error| Failure::new(Exit::Permission, format!("state_dir: {error}")))?;
        Ok(())
    }

    pub fn state_dir(&self) -> &Path {
        &self.settings.agent.state_dir
    }

    pub fn retention(&self) -> Retention {
        let agent = &self.settings.agent;
        Retention { max_age: agent.ledger_retain, max_bytes: agent.ledger_max_size_bytes }
    }

    pub fn persist(&self) -> bool {
        self.settings.policy.persist == Persist::Rewrite
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The secrets of the configuration as they are now, and the addresses of the Sentinels.
    async fn fetch(&mut self) {
        let sources = keys::sources(self.settings, &self.group, self.of_group);
        (self.stocked, self.unfetched) = keys::stock(sources).await;
        let mut problems = Vec::new();
        let (sentinels, observer) = group_dials(self.of_group, &mut problems).await;
        self.unfetched.extend(problems.into_iter().map(|problem| format!("group.{}: {problem}", self.group)));
        self.target = Some(GroupTarget {
            name: self.group.clone(),
            sentinels,
            locals: Vec::new(),
            observer,
            masterauth: None,
            tls: self.of_group.tls.clone(),
            salt: self.salt.clone(),
            unfetched: Vec::new(),
        });
    }

    /// The first look of a rotation that begins.
    pub async fn begin(&mut self) -> Result<RotationView, Failure> {
        self.fetch().await;
        let chosen = keys::chosen(&self.stocked, &self.group, self.wanted_user.as_deref(), &self.unfetched)?.clone();
        self.user = chosen.user();
        let mut group = self.read().await?;
        // The nodes say as whom they replicate, where neither the configuration nor the secret does.
        let silent = self.wanted_user.is_none() && self.user == "default";
        if let Some(user) = group.masteruser().filter(|user| silent && !user.is_empty()) {
            self.user = user.to_owned();
            group = self.read().await?;
        }
        let chosen = Stocked { source: keys::Source { user: Some(self.user.clone()), ..chosen.source }, ..chosen };
        let pair = keys::pair_at_begin(&group, &chosen, &self.stocked);
        self.chosen = Some(chosen);
        let Some(pair) = pair else { return Err(Failure::new(Exit::Config, "the secret store offers nothing")) };
        self.pair = Some(pair);
        self.settled(group).await
    }

    /// The first look of a rotation that goes on, or back.
    pub async fn continue_from(&mut self, record: &RotationRecord, way: Way) -> Result<(), Failure> {
        self.fetch().await;
        let rotation = &record.rotation;
        self.user = rotation.subject.user.clone();
        self.subject = Some(rotation.subject.clone());
        let user = self.user.clone();
        let mut fitting = self.stocked.iter().filter(|it| it.user() == user);
        let masterauth = self.stocked.iter().find(|it| it.source.key.ends_with(".masterauth"));
        let chosen = fitting.next().or(masterauth.filter(|_| rotation.subject.replicates)).cloned();
        let mut chosen = chosen.ok_or_else(|| {
            let text = format!("secret-unavailable: no secret of the configuration is for user {user} any more");
            Failure::new(Exit::Config, text)
        })?;
        chosen.source.user = Some(user);
        let group = self.read().await?;
        let known = |print: &str| keys::known_as(print, &self.salt, &group, &chosen, &self.stocked);
        let (old, new) = (known(&rotation.old), known(&rotation.new));
        let lost = |which: &str| {
            Failure::new(
                Exit::Fault,
                format!(
                    "secret-unavailable: neither the nodes nor {} hold the {which} password of this rotation any more; \
                     put it there (the {which} one may be \"previous\"), and try again",
                    chosen.source.reference.source()
                ),
            )
        };
        // A password that no node shows any more needs no removal.
        let gone = Key { secret: None, hash: Secret::new("") };
        let pair = match way {
            Way::Forward => Pair { from: old.unwrap_or(gone), to: new.ok_or_else(|| lost("new"))? },
            Way::Back => Pair { from: new.unwrap_or(gone), to: old.ok_or_else(|| lost("old"))? },
        };
        self.chosen = Some(chosen);
        self.pair = Some(pair);
        self.settled(group).await.map(|_| ())
    }

    /// One look at the group as it is now.
    pub async fn look(&mut self) -> Result<RotationView, Failure> {
        let group = self.read().await?;
        self.settled(group).await
    }

    async fn read(&mut self) -> Result<Group, Failure> {
        let clock = self.clock;
        let logins = |node: &Endpoint| self.logins(node);
        let admin = Admin { logins: &logins, tls: self.of_group.tls.as_ref() };
        let Some(target) = &self.target else { return Err(Failure::new(Exit::Fault, "no Sentinel is configured")) };
        let read = rotation::group(target, &admin, &self.user, &move || clock.now()).await;
        read.filter(Group::was_reached).ok_or_else(|| {
            let text = format!(
                "group {}: no Sentinel answers; check the addresses, the network, and sentinel_password (relinkd check \
                 names each)",
                self.group
            );
            Failure::new(Exit::Unreachable, text)
        })
    }

    async fn settled(&mut self, mut group: Group) -> Result<RotationView, Failure> {
        let Some(pair) = self.pair.clone() else { return Err(Failure::new(Exit::Fault, "no password is known yet")) };
        let logins = |node: &Endpoint| self.logins(node);
        group.try_logins(&Admin { logins: &logins, tls: self.of_group.tls.as_ref() }, &pair).await;
        let view = group.view(&pair);
        self.took.extend(group.took());
        let seen = view.nodes.iter().filter_map(|node| Some((&node.address, node.says.seen()?)));
        self.accept = seen.filter(|(_, says)| says.user.accepts_to).map(|(node, _)| node.clone()).collect();
        Ok(view)
    }

    /// What may administer a node, the likeliest first: a wrong login costs a line in the node's ACL LOG.
    fn logins(&self, node: &Endpoint) -> Vec<AdminLogin> {
        let plain = |user: String| if user == "default" { String::new() } else { user };
        let mut logins: Vec<AdminLogin> = Vec::new();
        let rotated = |user: &str| user == self.user || (user.is_empty() && self.user == "default");
        if let Some(took) = self.took.get(node) {
            let to = self.pair.as_ref().and_then(|pair| pair.to.secret.clone());
            match to.filter(|_| rotated(&took.user) && self.accept.contains(node)) {
                Some(to) => logins.push(AdminLogin { user: took.user.clone(), password: to }),
                None => logins.push(took.clone()),
            }
        }
        let admin = format!("group.{}.admin", self.group);
        let has_admin = self.of_group.admin.is_some();
        let fitting = self.stocked.iter().filter(|it| match has_admin {
            true => it.source.key == admin,
            false => it.source.key.starts_with("replica.") || it.user() == "default",
        });
        // A replica's own login first: it is the one that works before anything has changed.
        let mut fitting: Vec<&Stocked> = fitting.collect();
        fitting.sort_by_key(|it| !it.source.key.starts_with("replica."));
        for it in fitting {
            logins.extend(it.offers.iter().map(|o| AdminLogin { user: plain(it.user()), password: o.secret.clone() }));
        }
        if let Some(pair) = self.pair.as_ref().filter(|_| logins.iter().any(|login| rotated(&login.user))) {
            let both = [&pair.to, &pair.from].into_iter().filter_map(|key| key.secret.clone());
            logins.extend(both.map(|password| AdminLogin { user: plain(self.user.clone()), password }));
        }
        let mut once: Vec<AdminLogin> = Vec::new();
        for login in logins {
            if !once.contains(&login) {
                once.push(login);
            }
        }
        once
    }

    pub fn subject(&self, view: &RotationView) -> Result<Subject, Vec<Obstacle>> {
        let watcher = self.of_group.sentinel_auth.as_ref();
        let watcher = watcher.map(|login| login.user.clone().unwrap_or_else(|| "default".to_owned()));
        crate::rotate::subject(&self.user, view, watcher.as_deref())
    }

    pub fn set_subject(&mut self, subject: Subject) {
        self.subject = Some(subject);
    }

    pub fn known_subject(&self) -> Result<&Subject, Failure> {
        self.subject.as_ref().ok_or_else(|| Failure::new(Exit::Fault, "whom the password belongs to is not known"))
    }

    /// Where the new password comes from, and its version.
    pub fn origin(&self) -> (String, String) {
        let offer = self.chosen.as_ref().and_then(|chosen| chosen.offers.first());
        offer.map(|offer| (offer.source.clone(), offer.version.clone())).unwrap_or_default()
    }

    /// Whether the group holds the new password already, and nothing else.
    pub fn already(&self, view: &RotationView) -> bool {
        let Some(subject) = &self.subject else { return false };
        let rotated = |node: &crate::model::rotation::NodeView| {
            node.says.seen().is_some_and(|says| {
                let shown = !subject.replicates || says.masterauth == Held::To;
                let clear = matches!(says.requirepass, Held::To | Held::Unset);
                shown && clear && says.user.accepts_to && !says.user.accepts_from && says.user.others == 0
            })
        };
        !view.nodes.is_empty() && view.nodes.iter().all(rotated)
    }

    /// What stands in the way on the side of the secret store.
    pub fn obstacles_of_secrets(&self, view: &RotationView) -> Vec<Obstacle> {
        let mut all = Vec::new();
        let mut found = |code, detail: String| all.push(Obstacle { code, at: None, detail });
        let (Some(pair), Some(subject)) = (&self.pair, &self.subject) else { return all };
        let unfit = |key: &Key| {
            key.secret.as_ref().is_some_and(|secret| {
                secret.expose().chars().any(|c| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\''))
            })
        };
        // sentinelFlushConfig writes the password as it is, unquoted (Redis 7.0.15, rewriteConfigSentinelOption).
        if subject.watches && unfit(&pair.to) {
            let detail = "the new password has a space, quote or control character in it, which Sentinel \
                          would write into its file unquoted and not read back; choose another";
            found(RefusalCode::SecretRejected, detail.to_owned());
        }
        let needs_old = subject.replicates || subject.watches || subject.single;
        if needs_old && pair.from.secret.is_none() && !self.already(view) {
            let detail = "the old password is known by its hash only, so nothing could be taken back; keep it in the \
                          secret store as \"previous\"";
            found(RefusalCode::SecretUnavailable, detail.to_owned());
        }
        all
    }

    /// What a person should know before it begins.
    pub async fn warnings(&self) -> Vec<String> {
        let mut warnings = self.unfetched.clone();
        let (Some(pair), Some(subject)) = (&self.pair, &self.subject) else { return warnings };
        for it in self.stocked.iter().filter(|it| it.user() == subject.user) {
            let newest = it.offers.first().map(|offer| offer.secret.acl_hash());
            if newest.as_ref() == Some(&pair.from.hash) {
                warnings.push(format!(
                    "{} ({}) still holds the old password: relinkd itself logs in with it, so change it before the old \
                     one is removed (rotate run --keep-old stops there)",
                    it.source.key,
                    it.source.reference.source()
                ));
            }
        }
        let stored = self.chosen.iter().flat_map(|chosen| &chosen.offers);
        let previous = stored.clone().any(|offer| offer.secret.acl_hash() == pair.from.hash);
        if subject.user != "default" && !previous && (subject.replicates || subject.watches) {
            warnings.push(
                "the secret store does not hold the old password as \"previous\": once every masterauth is set, abort \
                 cannot take it back after a crash of this process, and only resume is left"
                    .to_owned(),
            );
        }
        if !self.persist() {
            warnings.push("nothing is written to the servers' files, as [policy] persist says: a restart brings the old password back".to_owned());
        }
        warnings
    }

    /// The daemons on the hosts follow the store, for as long as the primary accepts what it offers.
    pub fn warning_of_abort(&self, way: Way) -> Option<String> {
        let (chosen, pair) = (self.chosen.as_ref()?, self.pair.as_ref()?);
        let newest = chosen.offers.first()?;
        (way == Way::Back && newest.secret.acl_hash() == pair.from.hash).then(|| {
            format!(
                "{} still offers the new password first: put the old one back there, or the daemons may set it again",
                newest.source
            )
        })
    }

    pub fn rotation(&self, taken_over: bool) -> Result<Rotation, Failure> {
        let subject = self.known_subject()?.clone();
        let Some(pair) = &self.pair else { return Err(Failure::new(Exit::Fault, "no password is known yet")) };
        let begun_at = self.now();
        Ok(Rotation {
            id: IncidentId::from_parts(begun_at, u128::from(std::process::id())).0,
            group: self.group.clone(),
            subject,
            old: pair.from.print(&self.salt),
            new: pair.to.print(&self.salt),
            taken_over,
            begun_at,
            ended_at: None,
        })
    }

    /// The record as it is; none where nothing was ever recorded here.
    pub fn record(&self) -> Result<Option<Ledger>, Failure> {
        match Ledger::open_read_only(&self.state_dir().join(LEDGER)) {
            Ok(ledger) => Ok(Some(ledger)),
            Err(LedgerError::Absent { .. }) => Ok(None),
            Err(error) => Err(super::failed_record(&error)),
        }
    }

    /// The pause that holds this group, one of its instances here, or all of this host: hands off for a rotation too.
    pub fn paused(&self, ledger: &Ledger) -> Result<Option<Obstacle>, Failure> {
        let now = self.now();
        let pauses = ledger.pauses(now).map_err(|error| super::failed_record(&error))?;
        let of_group = |name: &String| {
            self.settings.replicas.get(name).is_some_and(|replica| replica.group.as_deref() == Some(&self.group))
        };
        let holds = |scope: &Scope| match scope {
            Scope::Host => true,
            Scope::Group(name) => *name == self.group,
            Scope::Replica(name) => of_group(name),
        };
        let pauses = pauses.into_iter().map(|pause| pause.dated_at_most(now));
        let pause = pauses.filter(|pause| pause.in_force(now) && holds(&pause.scope)).max_by_key(Pause::over);
        Ok(pause.map(|pause| {
            let detail = format!(
                "{} paused {} until {} ({}): nothing is changed in a pause, by hand or by itself; wait for its end, or \
                 end it (relinkd resume), and go on",
                pause.owner, pause.scope, pause.ends, pause.reason
            );
            Obstacle { code: RefusalCode::Paused, at: None, detail }
        }))
    }

    pub fn open_rotation_in(&self, ledger: &Ledger) -> Result<Option<RotationRecord>, Failure> {
        ledger.open_rotation(&self.group).map_err(|error| super::failed_record(&error))
    }

    /// The hands for one step, on the group as it was last seen.
    pub fn hands(&self, view: &RotationView) -> Result<RotationHands, Failure> {
        let subject = self.known_subject()?.clone();
        let (Some(pair), Some(target)) = (&self.pair, &self.target) else {
            return Err(Failure::new(Exit::Fault, "no password is known yet"));
        };
        let password = |key: &Key| Password { secret: key.secret.clone(), hash: key.hash.clone() };
        let logins = |node: &Endpoint| self.logins(node);
        let admin = Admin { logins: &logins, tls: self.of_group.tls.as_ref() };
        let nodes = view.nodes.iter().filter(|node| node.says.seen().is_some());
        let nodes = nodes.filter_map(|node| {
            let login = self.logins(&node.address).into_iter().next()?;
            Some((node.address.clone(), admin.dial(&node.address, &login)))
        });
        let sentinels = view.sentinels.iter().filter(|sentinel| sentinel.says.seen().is_some());
        let sentinels = sentinels.filter_map(|sentinel| {
            let dial = Dial { address: Address::Tcp(sentinel.endpoint.clone()), ..target.sentinels.first()?.clone() };
            Some((sentinel.endpoint.clone(), dial))
        });
        let locals = self.settings.replicas.values().filter_map(|replica| match &replica.address {
            Address::Tcp(endpoint) => Some(endpoint.clone()),
            Address::Unix(_) => None,
        });
        Ok(RotationHands {
            group: self.group.clone(),
            subject,
            from: password(&pair.from),
            to: password(&pair.to),
            nodes: nodes.collect(),
            sentinels: sentinels.collect(),
            persist: self.persist(),
            here: locals.collect(),
        })
    }
}
