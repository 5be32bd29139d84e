//! Reading the world once more, just before it is changed. What cannot be read counts as moved.

use std::time::Duration;

use super::{COMMAND, Hands, Stop};
use crate::model::evidence::{LinkState, PeerRole, Reading, Role, SentinelSays, ServerView, repeats};
use crate::model::remedy::{Living, Precondition};
use crate::model::turn::Clock;
use crate::model::{Endpoint, Timestamp, turn};
use crate::wire::reply::sentinel::Answers;
use crate::wire::reply::{Reply, info, peer_role, sentinel};
use crate::wire::{Dial, Reader, Until, Writer, all};

/// From the first question until the change is sent. What takes longer has been read too long ago.
const BOUND: Duration = Duration::from_millis(2_000);

/// From the last look at a server that takes writes until they are given up.
const LAST_LOOK: Duration = Duration::from_millis(200);

/// A Sentinel that does not answer within this is passed over; a majority has to answer all the same.
const SENTINEL: Duration = Duration::from_millis(turn::SENTINEL_MS);

impl Hands {
    /// That the world is still so, and the connection on which that was read, for a change that is made at once.
    pub(super) async fn unmoved(&self, expect: &Precondition) -> Result<Writer, Stop> {
        let until = Until::within(BOUND);
        let read = async {
            // What is far away is asked first: the local server may take writes, or begin a sync, in that time.
            self.sentinels_still_agree(expect).await?;
            if let Some(target) = &expect.is_primary {
                self.is_primary(target).await?;
            }
            let mut writer = self.writer().await?;
            let last_look = Until::within(LAST_LOOK);
            self.local_still_so(&mut writer, expect).await?;
            writer.good_until(until);
            if expect.leads_up_to.is_some() {
                writer.good_until(last_look);
            }
            Ok(writer)
        };
        match tokio::time::timeout(BOUND, read).await {
            Ok(read) => read,
            Err(_) => {
                let bound = BOUND.as_millis();
                Err(Stop::Moved(format!("what the plan rests on could not be read again within {bound} ms")))
            }
        }
    }

    /// The part of a precondition that the Sentinels answer for, asked of each at once.
    pub(super) async fn sentinels_still_agree(&self, expect: &Precondition) -> Result<(), Stop> {
        let wanted = expect.sentinels_name.is_some()
            || expect.no_failover
            || expect.primary_down
            || expect.turn.is_some()
            || expect.living.is_some();
        let Some(group) = self.group.as_deref().filter(|_| wanted) else { return Ok(()) };
        let mut views: Vec<SentinelSays> =
            all(self.sentinels.iter().map(|dial| ask(dial, group, expect.living.is_some())))
                .await
                .into_iter()
                .flatten()
                .collect();
        each_once(&mut views);
        let known = views.iter().map(|says| says.others as usize + 1).max().unwrap_or(0).max(self.sentinels.len());
        let need = known / 2 + 1;
        let moved = |what: String| Err(Stop::Moved(what));
        if views.len() < need {
            return moved(format!("only {} of {known} Sentinels answer now", views.len()));
        }
        if expect.no_failover {
            quiet(&views, expect.sentinels_name.as_ref())?;
        }
        // What a Sentinel says of another primary says nothing of this one.
        let named = |says: &SentinelSays| expect.sentinels_name.as_ref().is_none_or(|named| says.primary == *named);
        if let Some(wanted) = &expect.sentinels_name {
            let votes = views.iter().filter(|says| named(says)).count();
            if votes < need {
                return moved(format!("{votes} of {known} Sentinels name {wanted} now, {need} are needed"));
            }
        }
        if expect.primary_down {
            let down = views.iter().filter(|says| named(says) && says.flags.contains("s_down")).count();
            if down < need {
                return moved(format!("{down} of {known} Sentinels hold the primary down now, {need} are needed"));
            }
        }
        if let Some(living) = &expect.living {
            still_worth_it(living, &views, known)?;
        }
        let clock = if expect.living.is_some() { Clock::Unlinked } else { Clock::Agreed };
        if let Some(first_ms) = expect.in_sight
            && let Err(unsure) = turn::all_in_sight(&views.iter().collect::<Vec<_>>(), first_ms, clock)
        {
            return moved(unsure.to_string());
        }
        if let Some(turn) = &expect.turn {
            let grants = views.iter().filter(|says| named(says) && turn.granted_by(says)).count();
            if grants < need {
                return moved(format!(
                    "the turn to ask is not ours any more: {grants} of {known} Sentinels give it, {need} are needed"
                ));
            }
        }
        Ok(())
    }

    /// The part that the local server answers for, on the very connection that will make the change.
    pub(super) async fn local_still_so(&self, writer: &mut Writer, expect: &Precondition) -> Result<ServerView, Stop> {
        let view = read_local(writer).await?;
        let moved = |what: String| Err(Stop::Moved(what));
        if let Some(run_id) = expect.run_id.as_deref().filter(|run_id| *run_id != view.run_id) {
            return moved(format!("the server was restarted since: run id {} and not {run_id}", view.run_id));
        }
        if let Some(limit) = expect.leads_up_to {
            return still_leads(view, limit);
        }
        if expect.still_primary {
            return match view.role {
                Role::Primary => Ok(view),
                _ => moved("the instance is not the primary any more".to_owned()),
            };
        }
        let Some(link) = view.role.link() else {
            return moved("the instance is not a replica any more".to_owned());
        };
        if let Some(primary) = expect.replica_of.as_ref().filter(|primary| **primary != link.primary) {
            return moved(format!("it follows {} now and not {primary}", link.primary));
        }
        if expect.link_down && link.up {
            return moved("the link is up again".to_owned());
        }
        // An attempt that only waits in `sync` for its answer, as in a hot reconnect loop, transfers nothing yet.
        let transferring = view.loading || (link.state == LinkState::Sync && link.sync_read > 0);
        if expect.not_syncing && transferring {
            return moved("a data set is being transferred now".to_owned());
        }
        Ok(view)
    }

    /// Asks an address for its role, with the credentials that the replica itself would use there.
    async fn is_primary(&self, target: &Endpoint) -> Result<(), Stop> {
        let moved = |why: String| Err(Stop::Moved(format!("{target} is not proved to be a primary: {why}")));
        let (user, password) = match self.own_credentials().await {
            Ok(found) => found,
            Err(why) => return moved(why),
        };
        let dial = Dial {
            address: crate::model::Address::Tcp(target.clone()),
            user,
            password: (!password.is_empty()).then_some(password),
            tls: self.local.tls.clone(),
        };
        let asked = async {
            let mut reader = Reader::connect(&dial, COMMAND).await?;
            reader.ask(&["ROLE"], COMMAND).await
        };
        match asked.await {
            Ok(reply) => match peer_role(&reply) {
                Some(PeerRole::Primary { .. }) => Ok(()),
                Some(_) => moved("it calls itself something else".to_owned()),
                None => moved(reply.unfit("ROLE").to_string()),
            },
            Err(error) => moved(error.to_string()),
        }
    }
}

/// A primary that is to follow another one: it has not taken more writes than the plan speaks of.
fn still_leads(view: ServerView, limit: i64) -> Result<ServerView, Stop> {
    if view.role != Role::Primary || view.loading {
        return Err(Stop::Moved("the instance is not a primary any more".to_owned()));
    }
    match view.repl_offset - limit {
        ..=0 => Ok(view),
        more => Err(Stop::Moved(format!("it has taken {more} bytes of writes more than the plan allows"))),
    }
}

/// INFO and ROLE of the local server.
pub(super) async fn read_local(writer: &mut Writer) -> Result<ServerView, Stop> {
    let failed = |why: String| Stop::Moved(format!("the local server could not be read: {why}"));
    let replies = writer.ask_all(&[&["INFO"], &["ROLE"]], COMMAND).await.map_err(|e| failed(e.to_string()))?;
    let [told, role] = replies.as_slice() else { return Err(failed("replies are missing".to_owned())) };
    let Reply::Text(text) = told else { return Err(failed(told.unfit("INFO").to_string())) };
    info::server_view(text, Some(role), Timestamp::default(), 0)
        .ok_or_else(|| failed("INFO is not understood".to_owned()))
}

/// No Sentinel is at a failover, or has come out of one that the others have not heard of.
fn quiet(views: &[SentinelSays], named: Option<&Endpoint>) -> Result<(), Stop> {
    let moved = |what: String| Err(Stop::Moved(what));
    if let Some(busy) = views.iter().find(|says| says.fails_over()) {
        return moved(format!("Sentinel {} runs a failover now", busy.id));
    }
    if let Some(tilted) = views.iter().find(|says| says.tilt == Reading::Seen(true)) {
        return moved(format!("Sentinel {} is in TILT now", tilted.id));
    }
    // One that has disagreed for long was there when the plan was made.
    let ours = || views.iter().filter(|says| named.is_none_or(|named| says.primary == *named));
    let newer = |says: &&SentinelSays| says.may_be_young() && ours().any(|one| !one.names_as(says));
    if let Some(other) = views.iter().find(newer) {
        return moved(format!(
            "Sentinel {} names {} now, since {} ms: a failover may be running",
            other.id, other.primary, other.role_reported_ms
        ));
    }
    Ok(())
}

/// A Sentinel that is listed twice has one vote.
fn each_once(views: &mut Vec<SentinelSays>) {
    let repeats = repeats(views.iter().map(|says| says.id.as_str()));
    let mut repeats = repeats.into_iter();
    views.retain(|_| repeats.next().flatten().is_none());
}

/// A primary that lives is still without most of its replicas, and still is what the kind of the request asks for.
fn still_worth_it(living: &Living, views: &[SentinelSays], known: usize) -> Result<(), Stop> {
    let (moved, need) = (|what: String| Err(Stop::Moved(what)), known / 2 + 1);
    if let Some(down) = views.iter().find(|says| says.flags.contains("s_down")) {
        return moved(format!("Sentinel {} holds the primary down now", down.id));
    }
    let for_long = |says: &&SentinelSays| says.most_unlinked_ms().is_some_and(|age| age >= living.unlinked_for_ms);
    let unlinked = views.iter().filter(for_long).count();
    if unlinked < need {
        return moved(format!(
            "{unlinked} of {known} Sentinels say that most replicas have no link, {need} are needed"
        ));
    }
    if living.coordinated {
        let ready =
            |says: &&SentinelSays| says.knows_coordinated() && says.first_choice().is_some_and(|first| first.link_ok);
        let ready = views.iter().filter(ready).count();
        if ready < known {
            return moved(format!(
                "{ready} of {known} Sentinels know COORDINATED and would promote a linked replica now"
            ));
        }
    }
    let refusing = views.iter().filter(|says| says.primary_refuses_writes()).count();
    if living.refuses_writes && refusing < need {
        return moved(format!("for {refusing} of {known} Sentinels the primary refuses writes now, {need} are needed"));
    }
    Ok(())
}

async fn ask(dial: &Dial, group: &str, with_nodes: bool) -> Option<SentinelSays> {
    let questions: [&[&str]; 5] = [
        &["SENTINEL", "MASTER", group],
        &["SENTINEL", "MYID"],
        &["INFO"],
        &["SENTINEL", "REPLICAS", group],
        &["SENTINEL", "INFO-CACHE", group],
    ];
    let questions = if with_nodes { &questions[..] } else { &questions[..4] };
    let (_, replies) = Reader::connect_and_ask(dial, questions, SENTINEL).await.ok()?;
    let unasked = &Reply::Nil;
    let (master, myid, info, replicas, info_cache) = match replies.as_slice() {
        [master, myid, info, replicas] => (master, myid, info, replicas, unasked),
        [master, myid, info, replicas, info_cache] => (master, myid, info, replicas, info_cache),
        _ => return None,
    };
    let answers = Answers { myid, master, replicas, ckquorum: unasked, info, info_cache };
    sentinel::says(&answers, Timestamp::default(), 0).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::tests::world::{Bend, PRIMARY, healthy};
    use crate::model::evidence::{Flavour, ReplicaInSentinel};

    #[test]
    fn a_living_primary_is_left_alone_once_anything_of_it_has_changed() {
        let unlinked = |says: &mut SentinelSays| {
            says.build = Some((Flavour::Valkey, "9.1.2".into()));
            let first = says.replicas[0].clone();
            says.replicas.push(ReplicaInSentinel { offset: 6_000, endpoint: Endpoint::new("10.0.0.9", 6379), ..first });
            for replica in &mut says.replicas[..2] {
                (replica.link_ok, replica.link_down_ms) = (false, 20_000);
            }
        };
        let views: Vec<SentinelSays> =
            healthy().each_sentinel(unlinked).answering().map(|(_, says)| says.clone()).collect();
        let living = |coordinated, refuses_writes| Living { unlinked_for_ms: 10_000, coordinated, refuses_writes };
        let moved = |living: &Living, bend: &dyn Fn(&mut Vec<SentinelSays>)| {
            let mut views = views.clone();
            bend(&mut views);
            match still_worth_it(living, &views, 3) {
                Ok(()) => String::new(),
                Err(Stop::Moved(what) | Stop::Failed(what)) => what,
            }
        };
        let ready = living(true, false);
        assert_eq!(moved(&ready, &|_| ()), "");
        let down = moved(&ready, &|views| _ = views[0].flags.insert("s_down".into()));
        assert!(down.contains("holds the primary down now"), "{down}");
        let linked = |says: &mut SentinelSays| says.replicas[0].link_ok = true;
        let back = moved(&ready, &|views| views[..2].iter_mut().for_each(linked));
        assert!(back.starts_with("1 of 3 Sentinels say"), "{back}");
        let young = moved(&living(true, false), &|views| {
            views.iter_mut().flat_map(|says| &mut says.replicas).for_each(|replica| replica.link_down_ms = 9_000);
        });
        assert!(young.starts_with("0 of 3 Sentinels say"), "{young}");
        for bend in [
            (|views: &mut Vec<SentinelSays>| _ = views.pop()) as fn(&mut Vec<SentinelSays>),
            |views| views[1].build = Some((Flavour::Valkey, "8.0.1".into())),
            |views| views[1].replicas[1].priority = 1,
        ] {
            let less = moved(&ready, &bend);
            assert!(less.starts_with("2 of 3 Sentinels know COORDINATED"), "{less}");
        }
        let writes = moved(&living(false, true), &|_| ());
        assert!(writes.starts_with("for 0 of 3 Sentinels the primary refuses writes now"), "{writes}");
        let refuses = |says: &mut SentinelSays| {
            says.replicas.truncate(2);
            let Reading::Seen(nodes) = &mut says.nodes else { panic!() };
            nodes.get_mut(PRIMARY).unwrap().good_replicas = Some(0);
        };
        assert_eq!(moved(&living(false, true), &|views| views[..2].iter_mut().for_each(refuses)), "");
    }

    #[test]
    fn a_sentinel_that_names_another_primary_since_a_moment_ago_may_come_out_of_a_failover() {
        let views: Vec<SentinelSays> =
            healthy().each_sentinel(|_| ()).answering().map(|(_, says)| says.clone()).collect();
        let named = views[0].primary.clone();
        let moved = |bend: &dyn Fn(&mut SentinelSays)| {
            let mut views = views.clone();
            bend(&mut views[2]);
            match quiet(&views, Some(&named)) {
                Ok(()) => String::new(),
                Err(Stop::Moved(what) | Stop::Failed(what)) => what,
            }
        };
        let elsewhere = |says: &mut SentinelSays, role_reported_ms: u64| {
            let primary = Endpoint::new("10.0.0.99", 6379);
            *says = SentinelSays { primary, primary_run_id: "other".into(), role_reported_ms, ..says.clone() };
        };
        assert_eq!(moved(&|_| ()), "");
        let newer = moved(&|says| elsewhere(says, 9_000));
        assert!(newer.contains("names 10.0.0.99:6379 now, since 9000 ms"), "{newer}");
        assert_eq!(moved(&|says| elsewhere(says, 11_000)), "", "it was there when the plan was made");
        assert_ne!(moved(&|says| elsewhere(says, 0)), "", "an age that is not told may be short");
        assert_eq!(moved(&|says| says.role_reported_ms = 1_000), "", "it was started a moment ago");
        let spelt = moved(&|says| {
            (says.primary, says.role_reported_ms) = (Endpoint::new("db-20.example", named.port), 1_000);
        });
        assert_eq!(spelt, "", "the same server by its name");
        let mut first = views.clone();
        elsewhere(&mut first[0], 9_000);
        assert!(quiet(&first, None).is_err(), "whichever is asked first");
        assert!(moved(&|says| _ = says.flags.insert("failover_in_progress".into())).contains("runs a failover now"));
        assert!(moved(&|says| says.tilt = Reading::Seen(true)).contains("in TILT now"));
    }

    #[test]
    fn a_sentinel_that_is_listed_twice_has_one_vote_here_too() {
        let says: Vec<SentinelSays> = healthy().sentinels.iter().filter_map(|view| view.says.seen().cloned()).collect();
        let [a, b, ..] = says.as_slice() else { panic!("too few") };
        let mut views = vec![a.clone(), b.clone(), SentinelSays { quorum: 9, ..a.clone() }];
        each_once(&mut views);
        assert_eq!(views, [a.clone(), b.clone()]);
        let nameless = SentinelSays { id: String::new(), ..a.clone() };
        let mut views = vec![nameless.clone(), nameless];
        each_once(&mut views);
        assert_eq!(views.len(), 2, "without an id nothing is known");
    }
}
