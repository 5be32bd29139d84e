//! Looks at real servers: Redis as installed, and Valkey where it is.

#[path = "live/senses.rs"]
mod senses;

use std::time::Duration;

use lab::{Group, Impostor, Kind, Manner, Server};
use relinkd::collect::Target;
use relinkd::diagnose::diagnose;
use relinkd::model::Endpoint;
use relinkd::model::evidence::{Answer, Connect, LinkState, Missing, PeerRole, Reading};
use relinkd::model::finding::Cause;
use relinkd::secrets::{Offer, Secret};
use relinkd::wire::Dial;
use senses::{PATIENCE, dial, endpoint, follows, kinds, linked, nowhere, run, seen, target, unlinked};

const PASSWORD: &str = "canary-right";
const WRONG: &str = "canary-wrong";
const PSYNC_ALLOWED: &str = "ERR value is not an integer or out of range";

/// A primary. Sentinels that are added to it do not hold it down while a test runs.
fn primary(kind: Kind) -> Group {
    Group::builder(kind).password(PASSWORD).sentinel_timers(60_000, 180_000).start().expect("a primary")
}

fn offer(password: &str) -> Offer {
    Offer { source: "file:/x".into(), version: "1".into(), user: None, secret: Secret::new(password), changed: None }
}

#[tokio::test]
async fn a_healthy_pair_is_seen_from_all_sides_and_not_disturbed() {
    for kind in kinds() {
        let mut group = primary(kind);
        let replica = group.add_replica(&[]).expect("a replica");
        linked(&replica);

        let quiet = seen(&target(dial(&replica), &[]), &[], false).await;
        let link = quiet.local_link().unwrap();
        assert!(link.up && link.state == LinkState::Connected && link.primary == endpoint(group.primary()), "{link:?}");
        let settings = quiet.settings.seen().unwrap();
        assert!(settings.masterauth_set && settings.masterauth_print.len() == 12);
        assert_eq!(settings.dir, replica.data_dir().display().to_string());
        assert!(quiet.host.disk.seen().unwrap().total > 0 && quiet.host.memory.seen().unwrap().available > 0);
        for absent in [quiet.upstream.missing(), quiet.primary.missing(), quiet.named.missing()] {
            assert_eq!(absent, Some(&Missing::NotAsked));
        }

        let asked = seen(&target(dial(&replica), &[]), &[], true).await;
        let walk = asked.upstream.seen().unwrap();
        assert_eq!((&walk.connect, walk.ping.code()), (&Connect::Open, "NOAUTH"));
        assert!(walk.auth.is_ok() && walk.ping_again.is_ok() && walk.replconf.is_ok(), "{walk:?}");
        assert_eq!(walk.psync, Answer::NotAsked);
        assert!(matches!(walk.role.seen(), Some(PeerRole::Primary { .. })));
        assert_eq!(asked.primary.seen().unwrap().replicas.len(), 1);
        assert_eq!(asked.primary_limits.seen().unwrap().output_hard, 268_435_456);

        let proving = seen(&target(dial(&replica), &[]), &[offer(PASSWORD)], false).await;
        assert_eq!(proving.upstream.seen().unwrap().psync.to_string(), PSYNC_ALLOWED);
        assert!(proving.candidates[0].in_use);
        assert_eq!(group.primary().sync_full(), Some(1), "a look cost a resync");
        assert_eq!(group.primary().info("replication", "connected_slaves").as_deref(), Some("1"));
        linked(&replica);
    }
}

#[tokio::test]
async fn a_wrong_masterauth_is_met_and_the_right_one_is_proved() {
    for kind in kinds() {
        let mut group = primary(kind);
        let replica = group.add_replica(&[("masterauth", WRONG)]).expect("a replica");
        let evidence = seen(&target(dial(&replica), &[]), &[offer(PASSWORD), offer(WRONG)], false).await;
        let walk = evidence.upstream.seen().unwrap();
        assert_eq!((walk.auth.code(), &walk.psync, walk.with_password), ("WRONGPASS", &Answer::NotAsked, true));
        assert_eq!(evidence.primary.missing(), Some(&Missing::NotAsked));

        let [right, wrong] = evidence.candidates.as_slice() else { panic!("{:?}", evidence.candidates) };
        assert!(!right.in_use && right.proof.auth.is_ok() && right.proof.replconf.is_ok(), "{right:?}");
        assert_eq!(right.proof.psync.to_string(), PSYNC_ALLOWED);
        assert!(matches!(right.proof.role.seen(), Some(PeerRole::Primary { .. })));
        assert!(wrong.in_use && wrong.proof.auth.code() == "WRONGPASS");
        assert_eq!(wrong.print, evidence.settings.seen().unwrap().masterauth_print);
        assert_ne!(wrong.print, right.print);
    }
}

#[tokio::test]
async fn a_missing_masterauth_is_met_at_psync() {
    for kind in kinds() {
        let mut group = primary(kind);
        let replica = group.add_replica(&[("masterauth", "")]).expect("a replica");
        let evidence = seen(&target(dial(&replica), &[]), &[], false).await;
        let walk = evidence.upstream.seen().unwrap();
        assert_eq!((walk.ping.code(), &walk.auth, walk.psync.code()), ("NOAUTH", &Answer::NotAsked, "NOAUTH"));
        assert!(!walk.with_password && !evidence.settings.seen().unwrap().masterauth_set);
    }
}

#[tokio::test]
async fn a_killed_primary_refuses() {
    for kind in kinds() {
        let mut group = primary(kind);
        let replica = group.add_replica(&[]).expect("a replica");
        linked(&replica);
        group.primary().kill9();
        unlinked(&replica);
        let evidence = seen(&target(dial(&replica), &[]), &[], false).await;
        assert_eq!(evidence.upstream.seen().unwrap().connect, Connect::Refused);
        assert!(evidence.local_link().unwrap().down_for_s.is_some());
    }
}

#[tokio::test]
async fn a_frozen_primary_costs_its_own_reading_and_no_other() {
    for kind in kinds() {
        let mut group = primary(kind);
        let replica = group.add_replica(&[]).expect("a replica");
        let sentinel = group.add_sentinel(&[]).expect("a Sentinel");
        linked(&replica);
        group.primary().freeze().unwrap();
        let evidence = seen(&target(dial(&replica), &[&sentinel]), &[offer(PASSWORD)], true).await;
        let walk = evidence.upstream.seen().unwrap();
        assert_eq!((&walk.connect, &walk.ping, &walk.auth), (&Connect::Open, &Answer::TimedOut, &Answer::NotAsked));
        assert_eq!(evidence.candidates[0].proof.ping, Answer::TimedOut);
        assert!(evidence.local.seen().is_some() && evidence.settings.seen().is_some());
        assert!(evidence.host.disk.seen().is_some() && evidence.sentinels[0].says.seen().is_some());
    }
}

#[tokio::test]
async fn a_black_hole_costs_its_own_reading_and_no_other() {
    let Some(kind) = lab::require(Kind::Redis70) else { return };
    // A full accept queue: the kernel drops every further SYN, as a firewall would.
    let hole = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::listen(&hole, 0).unwrap();
    let address = hole.local_addr().unwrap();
    let mut held = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
        held.push(stream);
    }
    let mut group = primary(kind);
    let silent = Endpoint::new("127.0.0.1", address.port());
    let replica = group.add_replica(&[("replicaof", &follows(&silent))]).expect("a replica");
    let sentinel = group.add_sentinel(&[]).expect("a Sentinel");
    let second = group.add_sentinel(&[]).expect("a Sentinel");
    let mut target = target(dial(&replica), &[&sentinel, &second]);
    target.sentinels.push(Dial::plain(silent));
    let evidence = seen(&target, &[offer(PASSWORD)], false).await;
    assert_eq!(evidence.upstream.seen().unwrap().connect, Connect::TimedOut);
    assert_eq!(evidence.local_link().unwrap().state, LinkState::Connecting);
    assert_eq!(evidence.sentinels[2].says.missing(), Some(&Missing::TimedOut));
    assert!(matches!(evidence.named.seen().unwrap().role.seen(), Some(PeerRole::Primary { .. })));
    assert!(evidence.candidates[0].proof.psync.to_string() == PSYNC_ALLOWED && evidence.host.disk.seen().is_some());
}

#[tokio::test]
async fn a_frozen_replica_is_missing_for_its_time_and_sentinels_are_still_heard() {
    let Some(kind) = lab::require(Kind::Redis70) else { return };
    let mut group = primary(kind);
    let replica = group.add_replica(&[]).expect("a replica");
    let sentinel = group.add_sentinel(&[]).expect("a Sentinel");
    replica.freeze().unwrap();
    let evidence = seen(&target(dial(&replica), &[&sentinel]), &[], false).await;
    assert_eq!(evidence.local.missing(), Some(&Missing::TimedOut));
    assert_eq!(evidence.settings.missing(), Some(&Missing::TimedOut));
    assert_eq!(evidence.upstream.missing(), Some(&Missing::NotAsked));
    assert_eq!(evidence.host.disk.missing(), Some(&Missing::NotAsked));
    assert!(evidence.sentinels[0].says.seen().is_some());
}

#[tokio::test]
async fn a_primary_that_is_a_web_server_is_shown_by_its_first_bytes() {
    let server = Impostor::new(Manner::Http).expect("a web server");
    let upstream = server.address().replace(':', " ");
    for kind in kinds() {
        let mut group = primary(kind);
        let replica = group.add_replica(&[("replicaof", &upstream)]).expect("a replica");
        let evidence = seen(&target(dial(&replica), &[]), &[], false).await;
        let walk = evidence.upstream.seen().unwrap();
        assert!(matches!(&walk.ping, Answer::NotRedis(begin) if begin.starts_with("HTTP/1.1 400")), "{walk:?}");
    }
}

#[tokio::test]
async fn sentinels_name_the_primary_that_a_stray_replica_does_not_follow() {
    for kind in kinds() {
        let mut group = primary(kind);
        let stray = group.add_replica(&[("replicaof", &follows(&nowhere()))]).expect("a stray");
        let sentinel = group.add_sentinel(&[]).expect("a Sentinel");
        let evidence = seen(&target(dial(&stray), &[&sentinel]), &[offer(PASSWORD)], false).await;
        let says = evidence.sentinels[0].says.seen().unwrap();
        assert_eq!((&says.primary, says.quorum, says.id.len()), (&endpoint(group.primary()), 1, 40));
        assert!(says.ckquorum.seen().unwrap().ok && says.tilt == Reading::Seen(false));
        assert!(says.nodes.seen().is_some());
        assert_eq!(evidence.upstream.seen().unwrap().connect, Connect::Refused);
        let named = evidence.named.seen().unwrap();
        assert_eq!(named.target, endpoint(group.primary()));
        assert!(named.auth.is_ok() && matches!(named.role.seen(), Some(PeerRole::Primary { .. })));
        assert_eq!(evidence.candidates[0].proof.target, endpoint(group.primary()));

        let mut minority = target(dial(&stray), &[&sentinel]);
        minority.sentinels.push(Dial::plain(nowhere()));
        let evidence = seen(&minority, &[offer(PASSWORD)], false).await;
        assert!(matches!(evidence.sentinels[1].says.missing(), Some(Missing::Refused(_))));
        assert_eq!(evidence.named.missing(), Some(&Missing::NotAsked));
        assert!(evidence.candidates.is_empty(), "proved where only a minority of the Sentinels points");

        let twice = seen(&target(dial(&stray), &[&sentinel, &sentinel]), &[], false).await;
        assert!(matches!(twice.sentinels[1].says.missing(), Some(Missing::Unsupported(why)) if why.contains("once")));
        assert!(twice.named_primary().is_none() && twice.named.seen().is_none());

        let unknown = Target { group: Some("nope".into()), ..target(dial(&stray), &[&sentinel]) };
        let evidence = seen(&unknown, &[], false).await;
        let why = evidence.sentinels[0].says.missing();
        let told = |why: &String| why.starts_with("does not know the group \"nope\"; it knows: ");
        assert!(matches!(why, Some(Missing::UnknownGroup(why)) if told(why)), "{why:?}");
    }
}

#[tokio::test]
async fn a_replication_user_is_not_used_to_read_the_primary() {
    for kind in kinds() {
        let repl = format!("repl on >{PASSWORD} resetchannels -@all +psync +replconf +ping");
        let looker =
            format!("looker on >{PASSWORD} resetchannels -@all +info +config|get +client|list +client|setname");
        let group = Group::builder(kind).password(PASSWORD).config("user", &repl).config("user", &looker);
        let group = group.config("masteruser", "repl").replicas(1).start().expect("a pair");
        let replica = group.replica(0).clone();

        let evidence = seen(&target(dial(&replica), &[]), &[], true).await;
        let walk = evidence.upstream.seen().unwrap();
        assert_eq!((walk.user.as_str(), walk.auth.is_ok(), walk.replconf.is_ok()), ("repl", true, true));
        assert!(matches!(walk.role.missing(), Some(Missing::Denied(why)) if why.starts_with("NOPERM")));
        assert_eq!(evidence.primary.missing(), Some(&Missing::NotAsked));
        let refusals = || group.primary().info("errorstats", "errorstat_NOPERM");
        let once = refusals();
        let again = seen(&target(dial(&replica), &[]), &[], true).await;
        assert_eq!(again.upstream.seen().unwrap().role, walk.role, "what was refused is remembered");
        assert_eq!(refusals(), once, "{kind}: and asked once, since each refusal is a line in ACL LOG");

        let observer = Some(("looker".to_owned(), Secret::new(PASSWORD)));
        let observed = Target { observer, ..target(dial(&replica), &[]) };
        let evidence = seen(&observed, &[], false).await;
        let once = refusals();
        assert_eq!(seen(&observed, &[], false).await.primary_limits.seen().unwrap().unknown_commands, None);
        assert_eq!(refusals(), once, "{kind}: COMMAND INFO is asked once");
        assert_eq!(evidence.primary.seen().unwrap().replicas.len(), 1);
        assert!(evidence.primary_limits.seen().unwrap().output_largest.is_some());
        assert_eq!(evidence.upstream.missing(), Some(&Missing::NotAsked));
    }
}

#[tokio::test]
async fn a_replica_that_does_not_let_us_in_says_so() {
    let Some(kind) = lab::require(Kind::Redis70) else { return };
    let mut group = primary(kind);
    let replica = group.add_replica(&[]).expect("a replica");
    let stranger = Dial::plain(endpoint(&replica));
    let evidence = seen(&target(stranger, &[]), &[], false).await;
    assert!(matches!(evidence.local.missing(), Some(Missing::Denied(why)) if why.starts_with("NOAUTH")));
    let mistaken = Dial { password: Some(Secret::new(WRONG)), ..Dial::plain(endpoint(&replica)) };
    let evidence = seen(&target(mistaken, &[]), &[], false).await;
    assert!(matches!(evidence.settings.missing(), Some(Missing::Denied(why)) if why.starts_with("WRONGPASS")));
}

#[tokio::test]
async fn settings_that_may_not_be_read_still_leave_the_reach_of_the_primary() {
    let Some(kind) = lab::require(Kind::Redis70) else { return };
    let mut group = primary(kind);
    let replica = group.add_replica(&[]).expect("a replica");
    run(&replica, &format!("ACL SETUSER watcher on >{PASSWORD} -@all +info +role"));
    let watcher = Dial { user: "watcher".into(), ..dial(&replica) };
    let evidence = seen(&target(watcher, &[]), &[], true).await;
    assert!(evidence.local.seen().is_some());
    assert!(matches!(evidence.settings.missing(), Some(Missing::Denied(why)) if why.contains("config|get")));
    let walk = evidence.upstream.seen().unwrap();
    assert_eq!((walk.ping.code(), &walk.auth, &walk.psync), ("NOAUTH", &Answer::NotAsked, &Answer::NotAsked));
}

#[tokio::test]
async fn a_local_server_that_is_full_or_busy_is_neither_dead_nor_a_stranger() {
    for kind in kinds() {
        let mut group = primary(kind);
        let upstream = follows(&nowhere());
        let lines =
            [("replicaof", upstream.as_str()), ("busy-reply-threshold", "1"), ("replica-serve-stale-data", "yes")];
        let replica = group.add_replica(&lines).expect("a replica");
        let target = target(dial(&replica), &[]);
        let caller = replica.clone();
        let script = std::thread::spawn(move || caller.run(&["EVAL_RO", "while true do end", "0"]));
        let busy = loop {
            let evidence = seen(&target, &[], false).await;
            if matches!(evidence.local, Reading::Missing(Missing::Busy(_))) {
                break evidence;
            }
            assert!(!script.is_finished(), "{kind}: {:?}", evidence.local);
        };
        assert_eq!(diagnose(&busy).cause(), Some(Cause::ReplicaHung), "{kind}");
        run(&replica, "SCRIPT KILL");
        assert!(script.join().unwrap().is_err());

        let _only = replica.connect().unwrap();
        run(&replica, "CONFIG SET maxclients 1");
        let full = seen(&target, &[], false).await;
        assert!(matches!(full.local, Reading::Missing(Missing::Unreachable(_))), "{kind}: {:?}", full.local);
        assert_eq!(diagnose(&full).cause(), Some(Cause::Unknown), "{kind}");
    }
}

#[tokio::test]
async fn a_primary_that_hands_over_is_no_broken_upstream() {
    for kind in kinds() {
        let mut group = primary(kind);
        let [replica, heir] = [(); 2].map(|()| group.add_replica(&[]).expect("a replica"));
        linked(&replica);
        linked(&heir);
        let both =
            |it: &Server| it.query::<String>(&["INFO", "replication"]).unwrap().matches("state=online").count() == 2;
        assert!(group.primary().wait_until(both, PATIENCE).is_some());
        // The handover waits for an heir that has not got the last write.
        heir.freeze().unwrap();
        run(group.primary(), "SET a b");
        run(group.primary(), &format!("FAILOVER TO {}", follows(&endpoint(&heir))));
        run(&replica, "CLIENT KILL TYPE master");
        unlinked(&replica);
        let evidence = seen(&target(dial(&replica), &[]), &[], true).await;
        let said = evidence.upstream.seen().unwrap().psync.to_string();
        assert_eq!(diagnose(&evidence).cause(), Some(Cause::FailoverRunning), "{kind}: {said}");
        run(group.primary(), "FAILOVER ABORT");
        linked(&replica);
    }
}

#[tokio::test]
async fn a_login_that_is_no_text_is_never_sent_in_another_form() {
    for kind in kinds() {
        let user = "repl on \">caf\\xe9-canary\" allchannels +@all";
        let group = Group::builder(kind).password(PASSWORD).config("user", user).replicas(1);
        let group =
            group.config("masteruser", "repl").config("masterauth", "\"caf\\xe9-canary\"").start().expect("a pair");
        let replica = group.replica(0).clone();
        let refusals = group.primary().info("errorstats", "errorstat_WRONGPASS");
        let evidence = seen(&target(dial(&replica), &[]), &[], true).await;
        assert!(evidence.settings.seen().unwrap().login_not_text, "{kind}");
        assert_eq!(evidence.upstream.seen().unwrap().auth, Answer::NotAsked, "{kind}");
        assert_eq!(diagnose(&evidence).cause(), None, "{kind}: the link stands");
        assert_eq!(group.primary().info("errorstats", "errorstat_WRONGPASS"), refusals, "{kind}");
    }
}
