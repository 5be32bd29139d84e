//! Before a failover each replica is looked at for itself.

use super::*;

/// Bends what OTHER showed.
#[track_caller]
fn holds(code: RefusalCode, bend: impl FnOnce(&mut Successor)) -> String {
    let told = holds_while(dead_primary(), code, |case| bend(&mut case.e.successors[1]));
    assert!(told.contains(OTHER), "it names the node: {told}");
    told
}

#[track_caller]
fn at_its_door(code: RefusalCode, bend: impl FnOnce(&mut Probe)) -> String {
    holds(code, |one| bend(seen(&mut one.probe)))
}

#[track_caller]
fn of_itself(code: RefusalCode, bend: impl FnOnce(&mut ServerView)) -> String {
    holds(code, |one| bend(seen(&mut one.server)))
}

fn its_link(server: &mut ServerView) -> &mut LinkView {
    match &mut server.role {
        Role::Replica(link) => link,
        other => panic!("{other:?}"),
    }
}

#[test]
fn holds_a_failover_while_a_replica_was_not_looked_at() {
    holds_while(dead_primary(), RefusalCode::EvidenceMissing, |case| case.e.successors.clear());
    let told = holds(RefusalCode::EvidenceMissing, |one| one.server = Reading::Missing(Missing::TimedOut));
    assert!(told.contains("reached from here"), "{told}");
    let told = holds(RefusalCode::EvidenceMissing, |one| {
        one.user = "repl".into();
        one.server = Reading::Missing(Missing::Denied("NOPERM this user has no permissions".into()));
    });
    assert!(told.contains("asked as repl") && told.contains("+info") && told.contains("observer"), "{told}");
    holds(RefusalCode::EvidenceMissing, |one| one.server = Reading::Missing(Missing::NotAsked));
    let told = holds(RefusalCode::EvidenceMissing, |one| one.probe = Reading::Missing(Missing::NotAsked));
    assert!(told.contains("+config|get"), "{told}");
}

#[test]
fn one_that_no_sentinel_has_in_sight_need_not_be_looked_at() {
    let mut ghost = dead_primary();
    ghost.e.each_sentinel(|says| {
        let other = says.replicas.iter_mut().find(|replica| replica.endpoint == at(OTHER)).unwrap();
        (other.flags, other.s_down_ms) = (flags(&["slave", "s_down"]), Some(30_000));
    });
    ghost.e.successors.pop();
    ghost.plan();
}

#[test]
fn holds_a_failover_while_a_replica_would_not_take_the_others_in() {
    const CODE: RefusalCode = RefusalCode::LatentAuthMismatch;
    let told = at_its_door(CODE, |probe| probe.auth = error("WRONGPASS invalid username-password pair"));
    assert!(told.contains("AUTH with its masterauth → WRONGPASS"), "{told}");
    at_its_door(CODE, |probe| probe.auth = error("ERR AUTH <password> called without any password configured"));
    at_its_door(CODE, |probe| {
        (probe.with_password, probe.auth) = (false, Answer::NotAsked);
        probe.replconf = error("NOAUTH Authentication required.");
    });
    at_its_door(CODE, |probe| probe.replconf = error("NOPERM this user has no permissions to run 'replconf'"));
    at_its_door(CODE, |probe| probe.psync = error("NOPERM this user has no permissions to run 'psync'"));
    at_its_door(CODE, |probe| probe.psync = error("ERR unknown command 'PSYNC'"));
    let told = at_its_door(CODE, |probe| probe.connect = Connect::Tls("certificate verify failed".into()));
    assert!(told.contains("TLS fails"), "{told}");
    let told = at_its_door(CODE, |probe| (probe.ping, probe.other_transport) = (Answer::Closed, Some(true)));
    assert!(told.contains("speaks TLS only"), "{told}");
}

#[test]
fn the_watched_replica_is_no_exception() {
    holds_while(dead_primary(), RefusalCode::LatentAuthMismatch, |case| {
        seen(&mut case.e.successors[0].probe).auth = error("WRONGPASS invalid username-password pair");
    });
}

#[test]
fn holds_a_failover_while_it_is_not_known_whether_a_replica_takes_the_others_in() {
    const CODE: RefusalCode = RefusalCode::EvidenceMissing;
    at_its_door(CODE, |probe| *probe = Probe { connect: Connect::TimedOut, ..blank(OTHER) });
    at_its_door(CODE, |probe| *probe = Probe { ping: error("LOADING Redis is loading"), ..blank(OTHER) });
    at_its_door(CODE, |probe| *probe = Probe { ping: Answer::TimedOut, ..blank(OTHER) });
    at_its_door(CODE, |probe| (probe.replconf, probe.psync) = (Answer::Closed, Answer::NotAsked));
    at_its_door(CODE, |probe| probe.psync = Answer::TimedOut);
    let told = at_its_door(CODE, |probe| (probe.psync, probe.version) = (Answer::NotAsked, None));
    assert!(told.contains("version"), "{told}");
}

#[test]
fn how_a_replica_without_its_primary_answers_is_no_reason_to_hold() {
    let goes = |bend: fn(&mut Probe)| {
        let mut case = dead_primary();
        bend(seen(&mut case.e.successors[1].probe));
        case.plan();
    };
    goes(|probe| probe.psync = error("MASTERDOWN Link with MASTER is down"));
    goes(|probe| probe.psync = error("ERR value is not an integer or out of range"));
    goes(|probe| probe.ping_again = error("MASTERDOWN Link with MASTER is down"));
    // Neither here nor there is a password.
    goes(|probe| {
        (probe.with_password, probe.auth, probe.ping) =
            (false, Answer::NotAsked, error("MASTERDOWN Link with MASTER is down"));
    });
    goes(|probe| (probe.psync, probe.version) = (Answer::NotAsked, Some("6.2.14".into())));
}

#[test]
fn holds_a_failover_while_a_replica_tells_of_itself_that_it_would_lose_data() {
    const CODE: RefusalCode = RefusalCode::DataAtRisk;
    of_itself(CODE, |server| its_link(server).offset = 1);
    of_itself(CODE, |server| {
        let link = its_link(server);
        (link.up, link.down_for_s) = (false, Some(-1));
    });
    of_itself(CODE, |server| server.keys = 0);
    of_itself(CODE, |server| server.rdb_last_save_ok = false);
    of_itself(CODE, |server| server.aof_last_write_ok = false);
    of_itself(CODE, |server| server.loading = true);
    of_itself(CODE, |server| server.version = "7.4.0".into());
    of_itself(RefusalCode::FailoverRunning, |server| server.role = Role::Primary);
    let told = holds_while(dead_primary(), CODE, |case| {
        its_link(seen(&mut case.e.successors[1].server)).offset = 5_001 + (1 << 20);
    });
    assert!(told.contains("max_lag_bytes"), "{told}");
}

#[test]
fn one_that_sentinel_may_not_promote_need_not_hold_the_data_and_has_to_be_able_to_load_it() {
    let backup = || {
        let mut case = dead_primary();
        case.e.each_sentinel(|says| {
            let other = says.replicas.iter_mut().find(|replica| replica.endpoint == at(OTHER)).unwrap();
            other.priority = 0;
        });
        case.e.each_sentinel(|says| says.o_down_ms = Some(10_000));
        case
    };
    let mut empty = backup();
    seen(&mut empty.e.successors[1].server).keys = 0;
    empty.plan();
    holds_while(backup(), RefusalCode::DataAtRisk, |case| {
        seen(&mut case.e.successors[1].server).version = "7.0.15".into();
    });
}

#[test]
fn a_request_goes_out_only_as_long_as_the_look_is_fresh() {
    assert_eq!(dead_primary().plan().steps[0].expect.looked_within_ms, Some(5_000));
}
