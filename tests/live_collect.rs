//! Looks at real servers: Redis as installed, and Valkey where it is.

mod servers;

use std::io::{Read, Write};
use std::time::{Duration, SystemTime};

use relinkd::collect::{Ask, DEADLINE, Target, look};
use relinkd::diagnose::diagnose;
use relinkd::model::evidence::{Answer, Connect, Evidence, LinkState, Missing, PeerRole, Reading};
use relinkd::model::finding::Cause;
use relinkd::model::{Endpoint, LinkId, Timestamp};
use relinkd::secrets::{Offer, Salt, Secret};
use relinkd::wire::Dial;
use servers::{Server, free_port, programs};

const PASSWORD: &str = "canary-right";
const WRONG: &str = "canary-wrong";
const PSYNC_ALLOWED: &str = "ERR value is not an integer or out of range";

fn clock() -> Timestamp {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Timestamp(i64::try_from(now.as_micros()).unwrap())
}

fn target(local: &Server, sentinels: &[&Server]) -> Target {
    Target {
        link: LinkId { replica: "cache".into(), group: String::new() },
        local: local.dial(),
        sentinels: sentinels.iter().map(|sentinel| sentinel.dial()).collect(),
        group: None,
        observer: None,
        tls_upstream: None,
        salt: Salt([7; 16]),
    }
}

/// One look, which has to end soon after its deadline and to hold no password.
async fn seen(target: &Target, candidates: &[Offer], probe_upstream: bool) -> Evidence {
    let ask = Ask {
        meet_replicas: false,
        refused: &[],
        followed: None,
        candidates,
        probe_upstream,
        log: Reading::Missing(Missing::NotAsked),
        store: Reading::Missing(Missing::NotAsked),
        clock: &clock,
        deadline: DEADLINE,
    };
    let evidence = tokio::time::timeout(DEADLINE + Duration::from_secs(5), look(target, ask))
        .await
        .expect("a look ends by its deadline");
    assert!(evidence.began <= evidence.ended);
    let saved = serde_json::to_string(&evidence).unwrap();
    assert!(!saved.contains("canary"), "a password is in {saved}");
    assert_eq!(serde_json::from_str::<Evidence>(&saved).unwrap(), evidence);
    evidence
}

fn replica_of(program: &str, port: u16, masterauth: &str) -> Server {
    let login = match masterauth {
        "" => String::new(),
        password => format!("masterauth {password}\n"),
    };
    Server::start(program, PASSWORD, &format!("replicaof 127.0.0.1 {port}\n{login}"))
}

fn primary(program: &str) -> Server {
    Server::start(program, PASSWORD, "repl-diskless-sync-delay 0\n")
}

fn offer(password: &str) -> Offer {
    Offer { source: "file:/x".into(), version: "1".into(), user: None, secret: Secret::new(password), changed: None }
}

#[tokio::test]
async fn a_healthy_pair_is_seen_from_all_sides_and_not_disturbed() {
    for program in programs() {
        let primary = primary(program);
        let replica = replica_of(program, primary.port, PASSWORD);
        replica.until_link("up").await;

        let quiet = seen(&target(&replica, &[]), &[], false).await;
        let link = quiet.local_link().unwrap();
        assert!(link.up && link.state == LinkState::Connected && link.primary == primary.endpoint(), "{link:?}");
        let settings = quiet.settings.seen().unwrap();
        assert!(settings.masterauth_set && settings.masterauth_print.len() == 12);
        assert_eq!(settings.dir, replica.dir.path().display().to_string());
        assert!(quiet.host.disk.seen().unwrap().total > 0 && quiet.host.memory.seen().unwrap().available > 0);
        for absent in [quiet.upstream.missing(), quiet.primary.missing(), quiet.named.missing()] {
            assert_eq!(absent, Some(&Missing::NotAsked));
        }

        let asked = seen(&target(&replica, &[]), &[], true).await;
        let walk = asked.upstream.seen().unwrap();
        assert_eq!((&walk.connect, walk.ping.code()), (&Connect::Open, "NOAUTH"));
        assert!(walk.auth.is_ok() && walk.ping_again.is_ok() && walk.replconf.is_ok(), "{walk:?}");
        assert_eq!(walk.psync, Answer::NotAsked);
        assert!(matches!(walk.role.seen(), Some(PeerRole::Primary { .. })));
        assert_eq!(asked.primary.seen().unwrap().replicas.len(), 1);
        assert_eq!(asked.primary_limits.seen().unwrap().output_hard, 268_435_456);

        let proving = seen(&target(&replica, &[]), &[offer(PASSWORD)], false).await;
        assert_eq!(proving.upstream.seen().unwrap().psync.to_string(), PSYNC_ALLOWED);
        assert!(proving.candidates[0].in_use);
        assert_eq!(primary.info("sync_full").await, "1", "a look cost a resync");
        assert_eq!(primary.info("connected_slaves").await, "1");
        replica.until_link("up").await;
    }
}

#[tokio::test]
async fn a_wrong_masterauth_is_met_and_the_right_one_is_proved() {
    for program in programs() {
        let primary = primary(program);
        let replica = replica_of(program, primary.port, WRONG);
        let evidence = seen(&target(&replica, &[]), &[offer(PASSWORD), offer(WRONG)], false).await;
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

/// A firewall by source address sees what the replica itself would show it.
#[tokio::test]
async fn the_probe_goes_from_where_the_replica_goes() {
    for program in programs() {
        let primary = primary(program);
        // Refused, so that the primary logs from where.
        let lines = format!("replicaof 127.0.0.1 {}\nmasterauth {WRONG}\nbind-source-addr 127.0.0.9\n", primary.port);
        let replica = Server::start(program, PASSWORD, &lines);
        let evidence = seen(&target(&replica, &[]), &[], true).await;
        let walk = evidence.upstream.seen().unwrap();
        assert_eq!(walk.auth.code(), "WRONGPASS", "{walk:?}");
        let source = walk.source.as_ref().unwrap();
        assert_eq!((source.address.as_str(), &source.unbound), ("127.0.0.9", &None));
        let log = format!("{:?}", primary.run("ACL LOG").await);
        assert!(log.contains("addr=127.0.0.9:") && !log.contains(" addr=127.0.0.1:"), "{log}");
    }
}

#[tokio::test]
async fn a_missing_masterauth_is_met_at_psync() {
    for program in programs() {
        let primary = primary(program);
        let replica = replica_of(program, primary.port, "");
        let evidence = seen(&target(&replica, &[]), &[], false).await;
        let walk = evidence.upstream.seen().unwrap();
        assert_eq!((walk.ping.code(), &walk.auth, walk.psync.code()), ("NOAUTH", &Answer::NotAsked, "NOAUTH"));
        assert!(!walk.with_password && !evidence.settings.seen().unwrap().masterauth_set);
    }
}

#[tokio::test]
async fn a_killed_primary_refuses() {
    for program in programs() {
        let mut primary = primary(program);
        let replica = replica_of(program, primary.port, PASSWORD);
        replica.until_link("up").await;
        primary.stop();
        replica.until_link("down").await;
        let evidence = seen(&target(&replica, &[]), &[], false).await;
        assert_eq!(evidence.upstream.seen().unwrap().connect, Connect::Refused);
        assert!(evidence.local_link().unwrap().down_for_s.is_some());
    }
}

#[tokio::test]
async fn a_frozen_primary_costs_its_own_reading_and_no_other() {
    for program in programs() {
        let primary = primary(program);
        let replica = replica_of(program, primary.port, PASSWORD);
        let sentinel = Server::sentinel(program, &primary);
        replica.until_link("up").await;
        primary.freeze();
        let evidence = seen(&target(&replica, &[&sentinel]), &[offer(PASSWORD)], true).await;
        let walk = evidence.upstream.seen().unwrap();
        assert_eq!((&walk.connect, &walk.ping, &walk.auth), (&Connect::Open, &Answer::TimedOut, &Answer::NotAsked));
        assert_eq!(evidence.candidates[0].proof.ping, Answer::TimedOut);
        assert!(evidence.local.seen().is_some() && evidence.settings.seen().is_some());
        assert!(evidence.host.disk.seen().is_some() && evidence.sentinels[0].says.seen().is_some());
    }
}

#[tokio::test]
async fn a_black_hole_costs_its_own_reading_and_no_other() {
    // A full accept queue: the kernel drops every further SYN, as a firewall would.
    let hole = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::listen(&hole, 0).unwrap();
    let address = hole.local_addr().unwrap();
    let mut held = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
        held.push(stream);
    }
    let primary = primary("redis-server");
    let replica = replica_of("redis-server", address.port(), PASSWORD);
    let sentinel = Server::sentinel("redis-server", &primary);
    let second = Server::sentinel("redis-server", &primary);
    let mut target = target(&replica, &[&sentinel, &second]);
    target.sentinels.push(Dial::plain(Endpoint::new("127.0.0.1", address.port())));
    let evidence = seen(&target, &[offer(PASSWORD)], false).await;
    assert_eq!(evidence.upstream.seen().unwrap().connect, Connect::TimedOut);
    assert_eq!(evidence.local_link().unwrap().state, LinkState::Connecting);
    assert_eq!(evidence.sentinels[2].says.missing(), Some(&Missing::TimedOut));
    assert!(matches!(evidence.named.seen().unwrap().role.seen(), Some(PeerRole::Primary { .. })));
    assert!(evidence.candidates[0].proof.psync.to_string() == PSYNC_ALLOWED && evidence.host.disk.seen().is_some());
}

#[tokio::test]
async fn a_frozen_replica_is_missing_for_its_time_and_sentinels_are_still_heard() {
    let primary = primary("redis-server");
    let replica = replica_of("redis-server", primary.port, PASSWORD);
    let sentinel = Server::sentinel("redis-server", &primary);
    replica.freeze();
    let evidence = seen(&target(&replica, &[&sentinel]), &[], false).await;
    assert_eq!(evidence.local.missing(), Some(&Missing::TimedOut));
    assert_eq!(evidence.settings.missing(), Some(&Missing::TimedOut));
    assert_eq!(evidence.upstream.missing(), Some(&Missing::NotAsked));
    assert_eq!(evidence.host.disk.missing(), Some(&Missing::NotAsked));
    assert!(evidence.sentinels[0].says.seen().is_some());
}

#[tokio::test]
async fn a_primary_that_is_a_web_server_is_shown_by_its_first_bytes() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let _ = client.read(&mut [0; 512]);
            let _ = client.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
        }
    });
    for program in programs() {
        let replica = replica_of(program, port, PASSWORD);
        let evidence = seen(&target(&replica, &[]), &[], false).await;
        let walk = evidence.upstream.seen().unwrap();
        assert!(matches!(&walk.ping, Answer::NotRedis(begin) if begin.starts_with("HTTP/1.1 400")), "{walk:?}");
    }
}

#[tokio::test]
async fn sentinels_name_the_primary_that_a_stray_replica_does_not_follow() {
    for program in programs() {
        let primary = primary(program);
        let nobody = free_port();
        let stray = replica_of(program, nobody, PASSWORD);
        let sentinel = Server::sentinel(program, &primary);
        let evidence = seen(&target(&stray, &[&sentinel]), &[offer(PASSWORD)], false).await;
        let says = evidence.sentinels[0].says.seen().unwrap();
        assert_eq!((&says.primary, says.quorum, says.id.len()), (&primary.endpoint(), 1, 40));
        assert!(says.ckquorum.seen().unwrap().ok && says.tilt == Reading::Seen(false));
        assert!(says.nodes.seen().is_some());
        assert_eq!(evidence.upstream.seen().unwrap().connect, Connect::Refused);
        let named = evidence.named.seen().unwrap();
        assert_eq!(named.target, primary.endpoint());
        assert!(named.auth.is_ok() && matches!(named.role.seen(), Some(PeerRole::Primary { .. })));
        assert_eq!(evidence.candidates[0].proof.target, primary.endpoint());

        let mut minority = target(&stray, &[&sentinel]);
        minority.sentinels.push(Dial::plain(Endpoint::new("127.0.0.1", free_port())));
        let evidence = seen(&minority, &[offer(PASSWORD)], false).await;
        assert!(matches!(evidence.sentinels[1].says.missing(), Some(Missing::Refused(_))));
        assert_eq!(evidence.named.missing(), Some(&Missing::NotAsked));
        assert!(evidence.candidates.is_empty(), "proved where only a minority of the Sentinels points");

        let twice = seen(&target(&stray, &[&sentinel, &sentinel]), &[], false).await;
        assert!(matches!(twice.sentinels[1].says.missing(), Some(Missing::Unsupported(why)) if why.contains("once")));
        assert!(twice.named_primary().is_none() && twice.named.seen().is_none());

        let unknown = Target { group: Some("nope".into()), ..target(&stray, &[&sentinel]) };
        let evidence = seen(&unknown, &[], false).await;
        let why = evidence.sentinels[0].says.missing();
        let told = |why: &String| why.starts_with("does not know the group \"nope\"; it knows: ");
        assert!(matches!(why, Some(Missing::UnknownGroup(why)) if told(why)), "{why:?}");
    }
}

#[tokio::test]
async fn a_replication_user_is_not_used_to_read_the_primary() {
    for program in programs() {
        let primary = Server::start(
            program,
            PASSWORD,
            &format!(
                "repl-diskless-sync-delay 0\nuser repl on >{PASSWORD} resetchannels -@all +psync +replconf +ping\n\
                 user looker on >{PASSWORD} resetchannels -@all +info +config|get +client|list +client|setname\n"
            ),
        );
        let replica = replica_of(program, primary.port, PASSWORD);
        replica.run("CONFIG SET masteruser repl").await;
        replica.run(&format!("REPLICAOF 127.0.0.1 {}", free_port())).await;
        replica.run(&format!("REPLICAOF 127.0.0.1 {}", primary.port)).await;
        replica.until_link("up").await;

        let evidence = seen(&target(&replica, &[]), &[], true).await;
        let walk = evidence.upstream.seen().unwrap();
        assert_eq!((walk.user.as_str(), walk.auth.is_ok(), walk.replconf.is_ok()), ("repl", true, true));
        assert!(matches!(walk.role.missing(), Some(Missing::Denied(why)) if why.starts_with("NOPERM")));
        assert_eq!(evidence.primary.missing(), Some(&Missing::NotAsked));
        let refusals = async || primary.info("errorstat_NOPERM").await;
        let once = refusals().await;
        let again = seen(&target(&replica, &[]), &[], true).await;
        assert_eq!(again.upstream.seen().unwrap().role, walk.role, "what was refused is remembered");
        assert_eq!(refusals().await, once, "{program}: and asked once, since each refusal is a line in ACL LOG");

        let observer = Some(("looker".to_owned(), Secret::new(PASSWORD)));
        let observed = Target { observer, ..target(&replica, &[]) };
        let evidence = seen(&observed, &[], false).await;
        let once = refusals().await;
        assert_eq!(seen(&observed, &[], false).await.primary_limits.seen().unwrap().unknown_commands, None);
        assert_eq!(refusals().await, once, "{program}: COMMAND INFO is asked once");
        assert_eq!(evidence.primary.seen().unwrap().replicas.len(), 1);
        assert!(evidence.primary_limits.seen().unwrap().output_largest.is_some());
        assert_eq!(evidence.upstream.missing(), Some(&Missing::NotAsked));
    }
}

#[tokio::test]
async fn a_replica_that_does_not_let_us_in_says_so() {
    let replica = replica_of("redis-server", free_port(), PASSWORD);
    let stranger = Target { local: Dial::plain(replica.endpoint()), ..target(&replica, &[]) };
    let evidence = seen(&stranger, &[], false).await;
    assert!(matches!(evidence.local.missing(), Some(Missing::Denied(why)) if why.starts_with("NOAUTH")));
    let mistaken = Dial { password: Some(Secret::new(WRONG)), ..Dial::plain(replica.endpoint()) };
    let evidence = seen(&Target { local: mistaken, ..target(&replica, &[]) }, &[], false).await;
    assert!(matches!(evidence.settings.missing(), Some(Missing::Denied(why)) if why.starts_with("WRONGPASS")));
}

#[tokio::test]
async fn settings_that_may_not_be_read_still_leave_the_reach_of_the_primary() {
    let primary = primary("redis-server");
    let replica = replica_of("redis-server", primary.port, PASSWORD);
    replica.run(&format!("ACL SETUSER watcher on >{PASSWORD} -@all +info +role")).await;
    let local = Dial { user: "watcher".into(), ..replica.dial() };
    let evidence = seen(&Target { local, ..target(&replica, &[]) }, &[], true).await;
    assert!(evidence.local.seen().is_some());
    assert!(matches!(evidence.settings.missing(), Some(Missing::Denied(why)) if why.contains("config|get")));
    let walk = evidence.upstream.seen().unwrap();
    assert_eq!((walk.ping.code(), &walk.auth, &walk.psync), ("NOAUTH", &Answer::NotAsked, &Answer::NotAsked));
}

#[tokio::test]
async fn a_local_server_that_is_full_or_busy_is_neither_dead_nor_a_stranger() {
    for program in programs() {
        let port = free_port();
        let replica =
            Server::start(program, PASSWORD, &format!("replicaof 127.0.0.1 {port}\nbusy-reply-threshold 1\n"));
        let target = target(&replica, &[]);
        replica.run("CONFIG SET replica-serve-stale-data yes").await;
        let script = tokio::spawn({
            let dial = replica.dial();
            async move {
                let mut writer = relinkd::wire::Writer::connect(&dial, servers::AMPLE).await.unwrap();
                let words = ["EVAL_RO", "while true do end", "0"].map(relinkd::wire::Arg::from);
                let _ = writer.run(&words, servers::AMPLE).await;
            }
        });
        let busy = loop {
            let evidence = seen(&target, &[], false).await;
            if matches!(evidence.local, Reading::Missing(Missing::Busy(_))) {
                break evidence;
            }
            assert!(!script.is_finished(), "{program}: {:?}", evidence.local);
        };
        assert_eq!(diagnose(&busy).cause(), Some(Cause::ReplicaHung), "{program}");
        replica.run("SCRIPT KILL").await;
        script.await.unwrap();

        let mut admin = relinkd::wire::Writer::connect(&replica.dial(), servers::AMPLE).await.unwrap();
        let limit = ["CONFIG", "SET", "maxclients", "1"].map(relinkd::wire::Arg::from);
        admin.run(&limit, servers::AMPLE).await.unwrap();
        let full = seen(&target, &[], false).await;
        assert!(matches!(full.local, Reading::Missing(Missing::Unreachable(_))), "{program}: {:?}", full.local);
        assert_eq!(diagnose(&full).cause(), Some(Cause::Unknown), "{program}");
    }
}

#[tokio::test]
async fn a_primary_that_hands_over_is_no_broken_upstream() {
    for program in programs() {
        let primary = primary(program);
        let (replica, heir) =
            (replica_of(program, primary.port, PASSWORD), replica_of(program, primary.port, PASSWORD));
        replica.until_link("up").await;
        heir.until_link("up").await;
        while primary.run("INFO replication").await.text().unwrap().matches("state=online").count() < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // The handover waits for an heir that has not got the last write.
        heir.freeze();
        primary.run("SET a b").await;
        primary.run(&format!("FAILOVER TO 127.0.0.1 {}", heir.port)).await;
        replica.run("CLIENT KILL TYPE master").await;
        replica.until_link("down").await;
        let evidence = seen(&target(&replica, &[]), &[], true).await;
        let said = evidence.upstream.seen().unwrap().psync.to_string();
        assert_eq!(diagnose(&evidence).cause(), Some(Cause::FailoverRunning), "{program}: {said}");
        primary.run("FAILOVER ABORT").await;
        replica.until_link("up").await;
    }
}

#[tokio::test]
async fn a_login_that_is_no_text_is_never_sent_in_another_form() {
    for program in programs() {
        let user = "user repl on \">caf\\xe9-canary\" allchannels +@all\n";
        let primary = Server::start(program, PASSWORD, &format!("repl-diskless-sync-delay 0\n{user}"));
        let own = "masteruser repl\nmasterauth \"caf\\xe9-canary\"\n";
        let replica = Server::start(program, PASSWORD, &format!("replicaof 127.0.0.1 {}\n{own}", primary.port));
        replica.until_link("up").await;
        let refusals = primary.info("errorstat_WRONGPASS").await;
        let evidence = seen(&target(&replica, &[]), &[], true).await;
        assert!(evidence.settings.seen().unwrap().login_not_text, "{program}");
        assert_eq!(evidence.upstream.seen().unwrap().auth, Answer::NotAsked, "{program}");
        assert_eq!(diagnose(&evidence).cause(), None, "{program}: the link stands");
        assert_eq!(primary.info("errorstat_WRONGPASS").await, refusals, "{program}");
    }
}
