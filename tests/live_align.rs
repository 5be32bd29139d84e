//! `align` on a real replica, by hand and driven by a real Ansible.

mod live;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use lab::{Group, Kind, fault};
use live::checks::QUICK;
use live::{RELINKD, Scene, Setup};

const OLD: &str = "old-CANARY-1";
const NEW: &str = "new-CANARY-2";
const WRONG: &str = "wrong-CANARY-3";

fn scene(kind: Kind, store: &str, policy: &str) -> Scene {
    let group = Group::builder(kind).replicas(2).sentinels(3).password(OLD).start().expect("a group");
    let policy = format!("{policy}{QUICK}");
    Scene::start(group, &Setup { store: Some(store.to_owned()), policy, ..Setup::default() })
}

fn masterauth(scene: &Scene) -> String {
    let pair: Vec<String> = scene.replica().query(&["CONFIG", "GET", "masterauth"]).expect("masterauth");
    pair[1].clone()
}

/// Exit code and both streams, with no password in them.
#[track_caller]
fn told(output: &Output) -> (i32, String) {
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!text.contains("CANARY"), "{text}");
    (output.status.code().unwrap_or(-1), text)
}

#[test]
fn aligns_once_and_says_so_redis_70() {
    if let Some(kind) = lab::require(Kind::Redis70) {
        aligns_once_and_says_so(kind);
    }
}

#[test]
fn aligns_once_and_says_so_valkey_80() {
    if let Some(kind) = lab::require(Kind::Valkey80) {
        aligns_once_and_says_so(kind);
    }
}

fn aligns_once_and_says_so(kind: Kind) {
    let mut scene = scene(kind, OLD, "");
    scene.agent.stop().expect("relinkd stops");
    fault::rotate_password(scene.group.primary(), NEW).expect("the password is rotated").keep();

    let (exit, text) = told(&scene.verb(&["align"]));
    assert_eq!(exit, 1, "{text}");
    assert!(text.contains("secret-rejected") && text.contains("the store looks older"), "{text}");
    scene.store("");
    let (exit, text) = told(&scene.verb(&["align", "cache"]));
    assert_eq!(exit, 1, "{text}");
    assert!(text.contains("secret-unavailable") && text.contains("empty"), "{text}");
    assert_eq!(masterauth(&scene), OLD, "an empty answer is never written");

    scene.store(NEW);
    let (exit, text) = told(&scene.verb(&["align", "--check", "--diff", "--detailed-exitcode"]));
    assert_eq!(exit, 2, "{text}");
    assert!(text.contains("would change") && text.contains("- masterauth fingerprint"), "{text}");
    assert_eq!(masterauth(&scene), OLD, "--check changes nothing");

    let first = scene.verb_json(&["align"]);
    assert_eq!((&first["changed"], &first["failed"]), (&true.into(), &false.into()), "{first:#}");
    assert_ne!(first["diff"]["before"], first["diff"]["after"]);
    assert!(first["actions"].as_array().is_some_and(|actions| !actions.is_empty()), "{first:#}");
    assert_eq!(masterauth(&scene), NEW);
    assert!(scene.replica().is_link_up());
    let second = scene.verb_json(&["align"]);
    assert_eq!((&second["changed"], &second["failed"]), (&false.into(), &false.into()), "{second:#}");
    assert_eq!(told(&scene.verb(&["align", "--detailed-exitcode"])).0, 0);

    scene.store(WRONG);
    let (exit, text) = told(&scene.verb(&["align", "--detailed-exitcode"]));
    assert_eq!((exit, masterauth(&scene).as_str()), (1, NEW), "{text}");
    let (exit, text) = told(&scene.verb(&["align", "cahce"]));
    assert!(exit == 64 && text.contains("cache"), "{exit} {text}");
}

/// Both passwords are valid, as in the middle of a rotation: the link is up and stays up.
#[test]
fn aligns_through_the_daemon_before_the_link_breaks() {
    let Some(kind) = lab::require(Kind::Redis70) else { return };
    let scene = scene(kind, OLD, "");
    scene.group.primary().run(&["ACL", "SETUSER", "default", &format!(">{NEW}")]).expect("a second password");
    scene.store(NEW);
    let first = scene.verb_json(&["align"]);
    assert_eq!(first["failed"], false, "{first:#}");
    assert_eq!(masterauth(&scene), NEW);
    assert!(scene.replica().is_link_up());
    let second = scene.verb_json(&["align"]);
    assert_eq!((&second["changed"], &second["failed"]), (&false.into(), &false.into()), "{second:#}");
    scene.assert_no_secret();

    // A store that has gone ahead of the primary: nothing is broken, and nothing is set.
    scene.store(&format!("{{\"password\": \"{WRONG}\", \"previous\": \"{NEW}\"}}"));
    let (exit, text) = told(&scene.verb(&["align"]));
    assert_eq!((exit, masterauth(&scene).as_str()), (1, NEW), "{text}");
    assert!(text.contains("ahead of the primary"), "{text}");
}

/// The daemon's look goes on without the store; whoever asked for it does not.
#[test]
fn a_store_that_takes_its_time_is_waited_for() {
    let Some(kind) = lab::require(Kind::Redis70) else { return };
    let mut scene = scene(kind, OLD, "");
    let (store, password) = (scene.agent.dir().join("store"), scene.agent.dir().join("masterauth"));
    std::fs::write(&store, format!("#!/bin/sh\nsleep 2\ncat {}\n", password.display())).expect("a store");
    std::fs::set_permissions(&store, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a program");
    let group = format!("masterauth = {{ exec = [\"{}\"] }}", store.display());
    scene.reconfigure(&Setup { group, policy: QUICK.to_owned(), ..Setup::default() });
    scene.wait_status("the store is followed", |status| status["secret"]["standing"] == "in-use");
    scene.group.primary().run(&["ACL", "SETUSER", "default", &format!(">{NEW}")]).expect("a second password");
    scene.store(NEW);
    let began = std::time::Instant::now();
    let first = scene.verb_json(&["align"]);
    assert_eq!((&first["changed"], &first["failed"]), (&true.into(), &false.into()), "{first:#}");
    assert!(
        began.elapsed().as_secs() < 40,
        "and no longer than it takes: {:?}\n{}",
        began.elapsed(),
        scene.agent.log()
    );
    assert_eq!(masterauth(&scene), NEW);
    assert!(scene.replica().is_link_up());
}

#[test]
fn holds_where_the_policy_only_observes() {
    let Some(kind) = lab::require(Kind::Redis70) else { return };
    let scene = scene(kind, OLD, "mode = \"observe\"\n");
    fault::rotate_password(scene.group.primary(), NEW).expect("the password is rotated").keep();
    scene.store(NEW);
    for words in [&["align", "--check"][..], &["align"][..]] {
        let (exit, text) = told(&scene.verb(words));
        assert!(exit == 1 && text.contains("observe-only"), "{words:?}: {exit} {text}");
    }
    assert_eq!(masterauth(&scene), OLD);
}

/// By the same record and policy as the run that follows.
#[test]
fn check_foresees_a_cooldown_and_a_pause() {
    let Some(kind) = lab::require(Kind::Redis70) else { return };
    let group = Group::builder(kind).replicas(2).sentinels(3).password(OLD).start().expect("a group");
    let policy = "settle = \"300ms\"\n[policy.realign-auth]\ncooldown = \"8s\"\n".to_owned();
    let mut scene = Scene::start(group, &Setup { store: Some(OLD.to_owned()), policy, ..Setup::default() });
    fault::rotate_password(scene.group.primary(), NEW).expect("the password is rotated").keep();
    scene.store(NEW);
    scene.replica().wait_link_up(live::PATIENCE).expect("the daemon heals it");
    scene.wait_status("it is over", |status| status["incident"].is_null());
    let said = scene.verb(&["pause", "--for", "10m", "--reason", "kernel upgrade"]);
    assert_eq!(said.status.code(), Some(0), "{said:?}");
    fault::rotate_password(scene.group.primary(), WRONG).expect("the password is rotated").keep();
    scene.store(WRONG);
    for words in [&["align", "--check"][..], &["heal", "--check"], &["align"]] {
        let (exit, text) = told(&scene.verb(words));
        assert!(exit == 1 && text.contains("paused") && text.contains("kernel upgrade"), "{words:?}: {exit} {text}");
    }
    scene.agent.stop().expect("relinkd stops");
    std::fs::remove_file(scene.agent.dir().join("state/ledger.db")).expect("another host's record, without the pause");
    let _ = std::fs::remove_file(scene.agent.dir().join("state/ledger.db-wal"));
    let (exit, text) = told(&scene.verb(&["align"]));
    assert!(exit == 0 && masterauth(&scene) == WRONG, "{exit} {text}");
    fault::rotate_password(scene.group.primary(), OLD).expect("the password is rotated").keep();
    scene.store(OLD);
    let (exit, text) = told(&scene.verb(&["align", "--check", "--detailed-exitcode"]));
    assert!(exit == 2 && text.contains("cooldown") && text.contains("within a minute"), "{exit} {text}");
    let (exit, text) = told(&scene.verb(&["align"]));
    assert!(exit == 0 && masterauth(&scene) == OLD, "it waits, and sets it: {exit} {text}");
}

/// The example role as shipped: check mode, for real, and once more.
#[test]
fn ansible_changes_it_only_the_first_time() {
    let Some(kind) = lab::require(Kind::Redis70) else { return };
    let Some(ansible) = lab::ansible() else { return };
    let mut scene = scene(kind, OLD, "");
    scene.agent.stop().expect("relinkd stops");
    fault::rotate_password(scene.group.primary(), NEW).expect("the password is rotated").keep();
    scene.store(NEW);
    let play = |words: &[&str]| told(&playbook(&ansible, &scene, words));

    let (exit, text) = play(&["--check", "--diff"]);
    assert!(exit == 0 && text.contains("changed=1"), "{text}");
    assert!(text.contains("-cache: masterauth fingerprint"), "{text}");
    assert_eq!(masterauth(&scene), OLD);
    let (exit, text) = play(&[]);
    assert!(exit == 0 && text.contains("changed=1"), "{text}");
    assert_eq!(masterauth(&scene), NEW);
    let (exit, text) = play(&[]);
    assert!(exit == 0 && text.contains("changed=0"), "{text}");

    scene.store(WRONG);
    let (exit, text) = play(&[]);
    assert!(exit != 0 && text.contains("failed=1") && text.contains("secret-rejected"), "{text}");
    assert_eq!(masterauth(&scene), NEW);
}

fn playbook(ansible: &Path, scene: &Scene, words: &[&str]) -> Output {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/config-management/ansible");
    let home: PathBuf = scene.agent.dir().join("ansible");
    Command::new("python3")
        .arg(ansible.join("bin/ansible-playbook"))
        .args(["--inventory", "redis_replicas,", "--connection", "local"])
        .args(["--extra-vars", &format!("relinkd_align_binary={RELINKD}")])
        .args(["--extra-vars", &format!("relinkd_align_config={}", scene.agent.config_path().display())])
        .args(["--extra-vars", "ansible_python_interpreter={{ ansible_playbook_python }}"])
        .args(words)
        .arg(docs.join("playbook.yml"))
        .env("PYTHONPATH", ansible)
        .env("ANSIBLE_HOME", &home)
        .env("ANSIBLE_LOCAL_TEMP", home.join("tmp"))
        .env("ANSIBLE_REMOTE_TEMP", home.join("remote"))
        .env("ANSIBLE_NOCOLOR", "1")
        .env("ANSIBLE_HOST_KEY_CHECKING", "False")
        .env("LC_ALL", "C.UTF-8")
        .output()
        .expect("python3 runs ansible-playbook")
}
