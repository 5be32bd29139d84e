//! `relinkd facts`: what config management learns of this host, with the daemon and without, and that it never fails a run.

mod live;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lab::{Group, Kind, fault};
use live::desk::Said;
use live::{PATIENCE, RELINKD, Scene, Setup};
use serde_json::{Value, json};

const OLD: &str = "facts-CANARY-1";
const NEW: &str = "facts-CANARY-2";

fn scene(kind: Kind) -> Scene {
    let group = Group::builder(kind).replicas(1).sentinels(1).password(OLD).start().expect("a group");
    let policy = "mode = \"observe\"\n".to_owned();
    Scene::start(group, &Setup { store: Some(OLD.to_owned()), policy, ..Setup::default() })
}

/// One JSON object, exit 0, nothing on standard error, and no password.
#[track_caller]
fn facts(command: &mut Command) -> Value {
    let said = Said::of(&command.stdin(Stdio::null()).output().unwrap());
    assert!(said.exit == 0 && said.err.is_empty() && !said.out.contains("CANARY"), "{said:?}");
    said.json()
}

fn of(scene: &Scene) -> Value {
    facts(Command::new(RELINKD).arg("--config").arg(scene.agent.config_path()).arg("facts"))
}

/// Some of an object's keys.
fn some(of: &Value, keys: &[&str]) -> Value {
    keys.iter().map(|key| ((*key).to_owned(), of[*key].clone())).collect::<serde_json::Map<_, _>>().into()
}

live::on_each_server! {
    the_daemon_is_asked_and_without_it_the_instance_and_the_record =>
        with_the_daemon_and_without_redis_70, with_the_daemon_and_without_valkey_80;
}

fn the_daemon_is_asked_and_without_it_the_instance_and_the_record(kind: Kind) {
    let mut scene = scene(kind);
    let whole = ["address", "group", "role", "link_up", "primary", "incident", "cause", "paused", "secret_mismatch"];
    let well = json!({
        "address": scene.replica().address(), "group": "mymaster", "role": "replica", "link_up": true,
        "primary": scene.group.primary().address(), "incident": null, "cause": null, "paused": false,
        "secret_mismatch": false,
    });
    scene.wait_status("the store is read", |status| status["secret"]["standing"] == "in-use");
    let first = of(&scene);
    let keys =
        ["version", "daemon", "daemon_version", "host", "mode", "healthy", "open_incidents", "paused", "stopped"];
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        some(&first, &keys),
        json!({
            "version": version, "daemon": true, "daemon_version": version, "host": "db-21", "mode": "observe",
            "healthy": true, "open_incidents": 0, "paused": false, "stopped": false,
        })
    );
    assert_eq!(some(&first["replicas"]["cache"], &whole), well);
    assert!(first.get("error").is_none(), "{first:#}");

    fault::rotate_password(scene.group.primary(), NEW).expect("the password is rotated").keep();
    scene.store(NEW);
    let said = scene.verb(&["pause", "--for", "10m", "--reason", "kernel upgrade"]);
    assert_eq!(said.status.code(), Some(0), "{said:?}");
    scene.wait_status("the incident is named", |status| status["cause"] == "auth-rejected");
    let began = Instant::now();
    while of(&scene)["replicas"]["cache"]["secret_mismatch"] != true {
        assert!(began.elapsed() < PATIENCE, "{:#}", of(&scene));
    }
    let broken = of(&scene);
    assert_eq!(
        some(&broken, &["daemon", "healthy", "open_incidents", "paused"]),
        json!({ "daemon": true, "healthy": false, "open_incidents": 1, "paused": true })
    );
    let cache = &broken["replicas"]["cache"];
    assert_eq!(
        some(cache, &["role", "link_up", "cause", "paused", "mode"]),
        json!({ "role": "replica", "link_up": false, "cause": "auth-rejected", "paused": true, "mode": "observe" })
    );
    assert_eq!(cache["incident"], scene.incidents()[0]["id"], "{cache:#}");

    scene.agent.stop().expect("relinkd stops");
    let mut alone = of(&scene);
    assert_eq!(
        some(&alone, &["daemon", "daemon_version", "stopped", "mode"]),
        json!({ "daemon": false, "daemon_version": null, "stopped": null, "mode": "observe" })
    );
    assert!(alone.get("error").is_none(), "a daemon that does not run is no error: {alone:#}");
    assert_eq!(&alone["replicas"]["cache"], cache, "the same, by the instance's own word and the record's");

    let killed = fault::kill(scene.replica());
    alone = of(&scene);
    let cache = &alone["replicas"]["cache"];
    assert_eq!(
        some(cache, &["role", "link_up", "primary", "secret_mismatch", "cause"]),
        json!({ "role": "unseen", "link_up": null, "primary": null, "secret_mismatch": null, "cause": "auth-rejected" })
    );
    assert!(alone["error"].as_str().is_some_and(|why| why.starts_with("cache: not seen: ")), "{alone:#}");
    killed.undo().unwrap();
}

/// A configuration whose only instance is not there, nor anything else.
fn bare() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().display();
    let text = format!(
        "[agent]\nstate_dir = \"{path}/state\"\nrun_dir = \"{path}/run\"\n[replica.cache]\naddress = \"127.0.0.1:1\"\n"
    );
    std::fs::write(dir.path().join("config.toml"), text).unwrap();
    dir
}

#[test]
fn a_host_of_which_nothing_can_be_learned_has_facts_too() {
    let dir = bare();
    let config = dir.path().join("config.toml");
    let asked = |words: &[&str]| {
        let mut command = Command::new(RELINKD);
        command.arg("--config").arg(&config).arg("facts").args(words);
        command
    };
    let began = Instant::now();
    let told = facts(&mut asked(&[]));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let keys = ["daemon", "healthy", "open_incidents", "mode"];
    assert_eq!(some(&told, &keys), json!({ "daemon": false, "healthy": null, "open_incidents": null, "mode": "auto" }));
    assert_eq!(told["replicas"]["cache"]["role"], "unseen", "{told:#}");
    assert!(told["error"].as_str().is_some_and(|why| why.contains("cache: not seen")), "{told:#}");
    assert!(!dir.path().join("state").exists() && !dir.path().join("run").exists(), "something was made");

    // Facter takes each key at the top for a fact of its own.
    let nested = facts(&mut asked(&["--facter"]));
    assert_eq!(nested.as_object().unwrap().keys().collect::<Vec<_>>(), ["relinkd"]);
    assert_eq!(nested["relinkd"], told);
    assert_eq!(facts(&mut asked(&["--json"])), told);

    // What is wrong, and not merely away, ends it as any other verb.
    std::fs::write(&config, "[replica.cache]\naddres = \"127.0.0.1:1\"\n").unwrap();
    let said = Said::of(&asked(&[]).output().unwrap());
    assert!(said.exit == 78 && said.out.is_empty() && said.err.contains("addres"), "{said:?}");
    assert_eq!(asked(&["--facte"]).output().unwrap().status.code(), Some(64));
}

#[test]
fn a_user_who_may_not_read_the_configuration_gets_facts_that_say_so() {
    if !std::fs::metadata("/proc/self").is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0) {
        return lab::skip("only root can become another user");
    }
    let dir = bare();
    // The binary may lie where another user cannot reach it.
    let binary = dir.path().join("relinkd");
    std::fs::copy(RELINKD, &binary).unwrap();
    let mode = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    mode(dir.path(), 0o755);
    mode(&binary, 0o755);
    mode(&dir.path().join("config.toml"), 0o600);
    let mut command = Command::new(&binary);
    command.arg("--config").arg(dir.path().join("config.toml")).arg("facts").current_dir("/").uid(65_534);
    let told = facts(&mut command);
    assert!(told["error"].as_str().is_some_and(|why| why.contains("permission denied to uid 65534")), "{told:#}");
    assert_eq!(some(&told, &["daemon", "replicas"]), json!({ "daemon": false, "replicas": {} }));
}

/// The role as shipped, on a real Ansible: installed once, and read as `ansible_local.relinkd`.
#[test]
fn ansible_reads_them_as_local_facts() {
    let Some(kind) = lab::require(Kind::Redis70) else { return };
    let Some(ansible) = lab::ansible() else { return };
    let scene = scene(kind);
    let home = scene.agent.dir().join("ansible");
    let roles = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/config-management/ansible/roles");
    let playbook = scene
        .agent
        .write_file(
            "facts.yml",
            "- hosts: all\n  gather_facts: false\n  roles: [relinkd_facts]\n  tasks:\n\
             \x20   - ansible.builtin.assert:\n        that:\n\
             \x20         - ansible_local.relinkd.daemon\n\
             \x20         - ansible_local.relinkd.error is not defined\n\
             \x20         - ansible_local.relinkd.replicas.cache.link_up\n\
             \x20         - ansible_local.relinkd.replicas.cache.group == 'mymaster'\n",
        )
        .unwrap();
    let play = || {
        let output = Command::new("python3")
            .arg(ansible.join("bin/ansible-playbook"))
            .args(["--inventory", "db-21,", "--connection", "local"])
            .args(["--extra-vars", &format!("relinkd_facts_binary={RELINKD}")])
            .args(["--extra-vars", &format!("relinkd_facts_config={}", scene.agent.config_path().display())])
            .args(["--extra-vars", &format!("relinkd_facts_dir={}", home.join("facts.d").display())])
            .args(["--extra-vars", "ansible_python_interpreter={{ ansible_playbook_python }}"])
            .arg(&playbook)
            .env("PYTHONPATH", &ansible)
            .env("ANSIBLE_ROLES_PATH", &roles)
            .env("ANSIBLE_HOME", &home)
            .env("ANSIBLE_LOCAL_TEMP", home.join("tmp"))
            .env("ANSIBLE_REMOTE_TEMP", home.join("remote"))
            .env("ANSIBLE_NOCOLOR", "1")
            .env("LC_ALL", "C.UTF-8")
            .output()
            .expect("python3 runs ansible-playbook");
        let said = Said::of(&output);
        assert!(said.exit == 0 && !said.out.contains("WARNING") && !said.err.contains("WARNING"), "{said:#?}");
        said.out
    };
    assert!(play().contains("changed=2"), "a directory and a script");
    assert!(play().contains("changed=0"), "and no more the second time");
}
