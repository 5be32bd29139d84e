//! People in the loop, on real servers: answers to proposals, pauses, planned restarts, and who may speak at all.

#[path = "live/catalogue.rs"]
mod catalogue;
mod live;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use catalogue::silence;
use lab::{Group, Kind, Port, fault};
use live::checks::text;
use live::desk::Said;
use live::{PATIENCE, RELINKD, Scene, Setup, on_each_server};
use rusqlite::Connection;
use serde_json::Value;

const OLD: &str = "old-CANARY-1";
const NEW: &str = "new-CANARY-2";
const WRONG: &str = "wrong-CANARY-3";

on_each_server! {
    answers =>
        a_proposal_is_rejected_refused_approved_and_healed_redis_70,
        a_proposal_is_rejected_refused_approved_and_healed_valkey_80;
    pauses =>
        a_pause_outlives_a_kill_and_its_end_sets_nothing_off_redis_70,
        a_pause_outlives_a_kill_and_its_end_sets_nothing_off_valkey_80;
    durable =>
        what_was_answered_outlives_a_kill_and_what_could_not_be_recorded_is_told_redis_70,
        what_was_answered_outlives_a_kill_and_what_could_not_be_recorded_is_told_valkey_80;
    planned_restart =>
        a_planned_restart_stays_silent_redis_70,
        a_planned_restart_stays_silent_valkey_80;
    stops =>
        failures_in_a_row_stop_the_host_until_a_person_takes_it_redis_70,
        failures_in_a_row_stop_the_host_until_a_person_takes_it_valkey_80;
}

fn group(kind: Kind) -> Group {
    Group::builder(kind).replicas(1).sentinels(3).password(OLD).start().expect("a group")
}

fn setup(policy: &str) -> Setup {
    let policy = format!("settle = \"300ms\"\n{policy}");
    Setup { store: Some(NEW.to_owned()), policy, ..Setup::default() }
}

fn said(scene: &Scene, words: &[&str]) -> Said {
    Said::of(&scene.verb(words))
}

fn rotate(scene: &Scene) {
    ahead(scene);
    fault::rotate_password(scene.group.primary(), NEW).expect("the password is rotated").keep();
}

fn proposed(scene: &Scene, but: &str) -> (String, String) {
    let fits = |status: &Value| !status["proposal"].is_null() && status["proposal"]["plan"] != but;
    let status = scene.wait_status("a proposal", fits);
    (text(&status["incident"]), text(&status["proposal"]["plan"]))
}

/// The store's password was tried, and the primary does not know it yet: tried later, it would be found latent first.
fn ahead(scene: &Scene) {
    scene.wait_status("the store is ahead", |status| status["secret"]["standing"] == "ahead");
}

fn answers(kind: Kind) {
    let scene = Scene::start(group(kind), &setup("[policy.realign-auth]\nmode = \"propose\"\n"));
    rotate(&scene);
    let message = scene.told_event("proposed");
    let (id, first) = proposed(&scene, "");
    assert_eq!(message["next_steps"][0], format!("relinkd approve {id} --plan {first}   # to do what is proposed"));

    let no = said(&scene, &["reject", &id[..20]]);
    assert_eq!(no.exit, 0, "{no:?}");
    let (_, why) = scene.held("auth-rejected", "approval-needed");
    assert!(why.contains("root rejected it"), "{why}");
    let nothing = said(&scene, &["approve", "cache"]);
    assert!(nothing.exit == 1 && nothing.err.contains("nothing is proposed"), "{nothing:?}");

    // Another process: another plan, which is proposed although the last was rejected.
    scene.replica().kill9();
    scene.replica().restart().expect("a restart");
    let (_, second) = proposed(&scene, &first);
    let stale = said(&scene, &["approve", "cache", "--plan", &first]);
    assert!(stale.exit == 1 && stale.err.contains("--plan"), "{stale:?}");

    // The world moves: the store offers what the primary does not take.
    scene.store(WRONG);
    let moved = said(&scene, &["approve", "cache", "--plan", &second]);
    assert_eq!(moved.exit, 1, "{moved:?}");
    assert!(moved.out.contains("not carried out") && moved.out.contains("secret-rejected"), "{moved:?}");
    assert_eq!(masterauth(&scene), OLD);

    let taken = said(&scene, &["ack", "cache", "--by", "bob"]);
    assert_eq!(taken.exit, 0, "{taken:?}");
    scene.wait_status("it is bob's", |status| status["taken_by"] == "bob");
    scene.store(NEW);
    let (id, _) = proposed(&scene, "");
    let yes = said(&scene, &["approve", &id]);
    assert_eq!(yes.exit, 0, "{yes:?}\n{}", scene.agent.log());
    let resolved = scene.over(&id);
    assert_eq!(masterauth(&scene), NEW);
    let answers = |message: &Value| {
        let all = message["answers"].as_array().cloned().unwrap_or_default();
        all.iter().map(|it| (text(&it["answer"]), text(&it["by"]))).collect::<Vec<_>>()
    };
    let said: Vec<_> = ["rejected", "approved", "acknowledged", "approved"].map(|it| (it.into(), "root".into())).into();
    assert_eq!(answers(&resolved), said);
    assert_eq!(answers(&scene.recorded(&id)), said);
    scene.assert_no_secret();
}

fn masterauth(scene: &Scene) -> String {
    let pair: Vec<String> = scene.replica().query(&["CONFIG", "GET", "masterauth"]).expect("masterauth");
    pair[1].clone()
}

fn pauses(kind: Kind) {
    let mut scene = Scene::start(group(kind), &setup("after_pause = \"3s\"\n"));
    outsiders(&scene);
    let wrong = said(&scene, &["pause", "--for", "1h", "--reason", " "]);
    assert!(wrong.exit == 1 && wrong.err.contains("reason"), "{wrong:?}");
    let wrong = said(&scene, &["pause", "--for", "1h", "--reason", "x", "--replica", "cash"]);
    assert!(wrong.exit == 1 && wrong.err.contains("cash"), "{wrong:?}");
    assert_eq!(said(&scene, &["wait", "--healthy"]).exit, 0);

    let paused = said(&scene, &["pause", "--for", "1h", "--reason", "upgrade"]);
    assert!(paused.exit == 0 && paused.out.contains("everything on this host"), "{paused:?}");
    rotate(&scene);
    let opened = scene.told_event("opened");
    assert_eq!((&opened["held"][0]["refusal"], &opened["actions"]), (&"paused".into(), &Value::Array(Vec::new())));
    let waited = said(&scene, &["wait", "--healthy", "--timeout", "4s"]);
    assert!(waited.exit == 1 && waited.out.contains("auth-rejected"), "{waited:?}");

    let would = said(&scene, &["heal", "cache", "--check"]);
    assert!(would.exit == 1 && would.out.contains("would hold: paused: root paused"), "{would:?}");

    scene.agent.kill9();
    scene.agent.start_again().expect("relinkd starts again");
    let (id, why) = scene.held("auth-rejected", "paused");
    assert!(why.contains("root") && why.contains("upgrade"), "{why}");
    let shown = said(&scene, &["status"]);
    assert!(shown.out.starts_with("paused everything on this host, by root"), "{shown:?}");
    assert_eq!(masterauth(&scene), OLD);

    let ended = Instant::now();
    assert_eq!(said(&scene, &["resume"]).exit, 0);
    scene.held("auth-rejected", "too-early");
    scene.over(&id);
    assert!(ended.elapsed() > Duration::from_secs(3), "{:?}", ended.elapsed());
    assert_eq!(masterauth(&scene), NEW);
    assert_eq!(said(&scene, &["wait", "--healthy", "--timeout", "20s"]).exit, 0);
    let twice = said(&scene, &["resume"]);
    assert!(twice.exit == 0 && twice.out.contains("nothing is paused"), "{twice:?}");
    // A deploy may stop the daemon too: the gate looks by itself.
    scene.agent.stop().expect("relinkd stops");
    let alone = scene.verb_json(&["wait", "--healthy", "--timeout", "20s"]);
    assert_eq!((&alone["healthy"], &alone["seen_by"]), (&true.into(), &"look".into()));
    assert_eq!(said(&scene, &["pause", "--for", "1h", "--reason", "x"]).exit, 69);
}

/// Even on a socket that somebody opened to all, only root, the daemon's user and the socket's group may change a thing.
fn outsiders(scene: &Scene) {
    let dir = scene.agent.dir();
    let open = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("a mode");
    };
    let place = dir.parent().expect("the lab's own directory");
    for part in [place, dir, &dir.join("run")] {
        open(part, 0o755);
    }
    open(&dir.join("run/control.sock"), 0o666);
    open(&dir.join("config.toml"), 0o644);
    // Where it was built, nobody else may be allowed to look.
    let program = dir.join("relinkd");
    std::fs::copy(RELINKD, &program).expect("a copy of the program");
    open(&program, 0o755);
    let as_nobody = |groups: &str| {
        let mut command = scene.replica().command_beside("setpriv");
        command.args(["--reuid=65534", "--regid=65534", groups]).arg(&program).arg("--config");
        command.arg(scene.agent.config_path()).args(["pause", "--for", "1s", "--reason", "x"]);
        Said::of(&command.output().expect("setpriv runs"))
    };
    let denied = as_nobody("--clear-groups");
    assert!(denied.exit == 77 && denied.err.contains("not in the group"), "{denied:?}");
    assert_eq!(scene.verb_json(&["status"])["pauses"], Value::Array(Vec::new()));
    let member = as_nobody("--groups=0");
    assert_eq!(member.exit, 0, "the socket is root's here, and so is its group: {member:?}");
    assert_eq!(said(scene, &["resume"]).exit, 0);
    open(place, 0o700);
}

fn ledger(scene: &Scene) -> Connection {
    let book = Connection::open(scene.agent.dir().join("state/ledger.db")).expect("the ledger");
    book.busy_timeout(PATIENCE).expect("patience");
    book
}

/// The daemon looks; with a Sentinel that hangs, for 0.75 s. A record that is made meanwhile waits for the look to end.
fn set_looking(scene: &Scene) {
    let socket = scene.agent.dir().join("run/control.sock");
    let mut stream = UnixStream::connect(socket).expect("the control socket");
    stream.write_all(b"{\"verb\":\"look\",\"replica\":\"cache\"}\n").expect("a question");
    let mut said = String::new();
    stream.read_to_string(&mut said).expect("an answer");
    assert!(said.contains("looked"), "{said}");
}

fn answered(scene: &Scene, id: &str) -> Vec<(String, String)> {
    let all = scene.recorded(id)["answers"].as_array().cloned().unwrap_or_default();
    all.iter().map(|it| (text(&it["answer"]), text(&it["name"]))).collect()
}

fn durable(kind: Kind) {
    let mut scene = Scene::start(group(kind), &setup("[policy.realign-auth]\nmode = \"propose\"\n"));
    rotate(&scene);
    let (id, _) = proposed(&scene, "");
    let book = ledger(&scene);
    book.execute_batch("BEGIN IMMEDIATE").expect("the ledger is locked");
    let lost = said(&scene, &["ack", &id, "--by", "alice"]);
    assert!(lost.exit == 1 && lost.err.contains("recorded") && lost.err.contains("lock"), "{lost:?}");
    assert!(answered(&scene, &id).is_empty());
    book.execute_batch("ROLLBACK").expect("the ledger is free");
    scene.wait_status("the ledger is back", |status| status["ledger_trouble"].is_null());

    fault::freeze(scene.group.sentinel(2)).expect("a Sentinel hangs").keep();
    for words in [&["ack", &id, "--by", "bob"][..], &["reject", &id]] {
        let (id, _) = proposed(&scene, "");
        let before = answered(&scene, &id).len();
        set_looking(&scene);
        let done = said(&scene, words);
        scene.agent.kill9();
        assert_eq!(done.exit, 0, "{words:?}: {done:?}");
        let now = answered(&scene, &id);
        assert_eq!(now.len(), before + 1, "{words:?} is forgotten: {now:?}\n{}", scene.agent.log());
        scene.agent.start_again().expect("relinkd starts again");
        scene.wait_status("relinkd has looked", |status| !status["looked_at"].is_null());
    }
    scene.held("auth-rejected", "approval-needed");
    assert_eq!(scene.status()["taken_by"], "bob");
    let all = answered(&scene, &id);
    assert_eq!(all.last().map(|(answer, _)| answer.as_str()), Some("rejected"), "{all:?}");
    assert_eq!(masterauth(&scene), OLD);
}

/// As if relinkd had not run for 56 s: what `remind` (a minute at least) waits for comes soon.
fn nearly_a_minute_ago(scene: &mut Scene) {
    assert!(scene.agent.stop().expect("SIGTERM").success());
    let back = "56000000";
    ledger(scene)
        .execute_batch(&format!(
            "UPDATE entry SET at = at - {back};
             UPDATE incident SET opened_at = opened_at - {back}, touched_at = touched_at - {back};"
        ))
        .expect("the ledger is rewritten");
    scene.agent.start_again().expect("relinkd starts again");
    scene.wait_status("relinkd has looked", |status| !status["looked_at"].is_null());
}

#[test]
fn reminders_come_until_somebody_takes_the_incident_redis_70() {
    let Some(kind) = lab::require(Kind::Redis70) else { return };
    let setup = Setup { store: Some(WRONG.to_owned()), ..setup("remind = \"1m\"\n") };
    let mut scene = Scene::start(group(kind), &setup);
    rotate(&scene);
    let (id, _) = scene.held("auth-rejected", "secret-rejected");
    scene.told_of(&id, "opened");
    let reminders = |scene: &Scene| scene.events(&id).iter().filter(|event| *event == "updated").count();
    for due in [1, 2] {
        assert_eq!(reminders(&scene), due - 1);
        nearly_a_minute_ago(&mut scene);
        scene.told("a reminder", |_| reminders(&scene) == due);
    }

    // Taken before the next is due; the looks go on meanwhile, until it would have come.
    let taken = said(&scene, &["ack", &id[..12], "--by", "bob"]);
    assert!(taken.exit == 0 && taken.out.contains("bob's: no reminders any more"), "{taken:?}");
    nearly_a_minute_ago(&mut scene);
    let (end, mut seen) = (Instant::now() + Duration::from_secs(6), BTreeSet::new());
    while Instant::now() < end || seen.len() < 3 {
        assert!(Instant::now() < end + PATIENCE, "it looks on: {seen:?}");
        seen.insert(scene.status()["looked_at"].to_string());
        std::thread::sleep(Duration::from_millis(100));
    }
    nearly_a_minute_ago(&mut scene);
    nearly_a_minute_ago(&mut scene);
    assert_eq!(reminders(&scene), 2, "{:#?}", scene.receiver.messages());

    // And everybody can read whose it is.
    assert_eq!(scene.status()["taken_by"], "bob");
    assert!(said(&scene, &["status"]).out.contains("bob"), "{:?}", said(&scene, &["status"]));
    let shown = said(&scene, &["show", &id]);
    assert!(shown.out.contains("bob"), "{shown:?}");
    assert_eq!(answered(&scene, &id), [("acknowledged".to_owned(), "bob".to_owned())]);
    scene.store(NEW);
    assert_eq!(scene.over(&id)["answers"][0]["name"], "bob");
}

fn planned_restart(kind: Kind) {
    let scene = Scene::start(group(kind), &setup("blip = \"200ms\"\n"));
    for _ in 0..2 {
        scene.replica().terminate().expect("SIGTERM");
        scene.wait_status("it is seen", |status| status["cause"] == "replica-down");
        scene.replica().restart().expect("a restart");
        let back = |status: &Value| status["link_up"] == true && status["cause"].is_null();
        scene.wait_status("it is back", back);
    }
    assert!(scene.replica().wait_until(|server| server.is_link_up(), PATIENCE).is_some());
    silence(&scene);
}

/// A login that proves well and replicates not: what is set is taken back. After two of these in a row nothing more is
/// tried here, until a person takes the incident.
fn stops(kind: Kind) {
    let group = Group::builder(kind).replicas(1).sentinels(1).acl_user("repl", OLD).start().expect("a group");
    let port = Port::reserve().expect("a port");
    let policy = "settle = \"300ms\"\nmax_failures = 2\n[policy.realign-auth]\ncooldown = \"1s\"\n".to_owned();
    let setup = Setup {
        store: Some(login("trap", NEW)),
        policy,
        listen: format!("127.0.0.1:{}", port.number),
        ..Setup::default()
    };
    let scene = Scene::start(group, &setup);
    ahead(&scene);
    let primary = scene.group.primary();
    let trap = ["ACL", "SETUSER", "trap", "on", &format!(">{NEW}"), "+psync|?", "+replconf", "+ping"];
    primary.run(&trap).expect("a user whose real PSYNC is refused");
    let off = fault::user_off(primary, "repl").expect("the user is switched off");

    let (id, why) = scene.held("auth-rejected", "attempts-exhausted");
    assert!(why.contains("2 remedies in a row failed on this host") && why.contains("relinkd ack ID"), "{why}");
    let escalated = scene.told_of(&id, "escalated");
    assert!(escalated.to_string().contains("taken back"), "{escalated:#}");
    assert!(escalated["next_steps"].to_string().contains(&format!("relinkd ack {id} --by NAME")), "{escalated:#}");
    let (stop, shown) = (scene.verb_json(&["status"])["stopped"].clone(), said(&scene, &["status"]));
    assert_eq!(stop["failures"], 2, "{stop:#}");
    assert!(
        shown.out.starts_with("stopped 2 remedies in a row failed, the last was realign-auth on cache"),
        "{shown:?}"
    );
    let tried = |scene: &Scene| {
        let done = scene.recorded(&id)["actions"].as_array().cloned().unwrap_or_default();
        done.iter().filter(|action| text(&action["detail"]).starts_with("set masterauth")).count()
    };
    assert_eq!(tried(&scene), 2, "{:#}", scene.recorded(&id));
    // The reason is one of the record: a restart does not lift it.
    let mut scene = scene;
    scene.agent.kill9();
    scene.agent.start_again().expect("relinkd starts again");
    scene.held("auth-rejected", "attempts-exhausted");
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(tried(&scene), 2);

    scene.store(&login("repl", NEW));
    let primary = scene.group.primary();
    let new = ["ACL", "SETUSER", "repl", "on", "resetpass", &format!(">{NEW}")];
    primary.run(&new).expect("the user is back, with a new password");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(tried(&scene), 2, "what would work now waits for a person too");
    let taken = said(&scene, &["ack", &id, "--by", "bob"]);
    assert!(taken.exit == 0 && taken.out.contains("relinkd acts again on this host"), "{taken:?}");
    let resolved = scene.over(&id);
    let answers: Vec<&Value> = resolved["answers"].as_array().into_iter().flatten().collect();
    assert_eq!(answers.len(), 1, "{resolved:#}");
    assert_eq!(
        (text(&answers[0]["answer"]), text(&answers[0]["by"]), text(&answers[0]["name"])),
        ("acknowledged".into(), "root".into(), "bob".into())
    );
    assert!(scene.verb_json(&["status"])["stopped"].is_null());
    assert_eq!(scene.events(&id).iter().filter(|event| *event == "escalated").count(), 1);
    off.keep();
    scene.assert_no_secret();
}

fn login(user: &str, password: &str) -> String {
    serde_json::json!({ "user": user, "password": password }).to_string()
}
