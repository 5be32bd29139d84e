//! `relinkd check` against real servers: what it finds, what it says to do, how it exits, and that it changes nothing.

mod live;

use lab::{Group, Kind, fault};
use live::Setup;
use live::desk::Desk;

const PASSWORD: &str = "check-CANARY-1";

/// The exit code and what was said, which never holds a password.
fn check(desk: &Desk, words: &[&str]) -> (i32, String) {
    let said = desk.run(&[&["check"], words].concat());
    let all = format!("{}{}", said.out, said.err);
    assert!(!all.contains("CANARY"), "a password was printed: {all}");
    assert!(!all.contains('\u{1b}'), "a pipe is no terminal: {all}");
    (said.exit, all)
}

/// Gives relinkd a user of its own on the replica, with these rules.
fn user_with(desk: &Desk, rules: &[&str]) -> Setup {
    let words: Vec<&str> = ["ACL", "SETUSER", "watcher", "reset", "on", ">check-CANARY-1"]
        .into_iter()
        .chain(rules.iter().copied())
        .collect();
    desk.group.replica(0).query::<String>(&words).unwrap();
    Setup { store: Some(PASSWORD.to_owned()), replica: "user = \"watcher\"".to_owned(), ..Setup::default() }
}

fn kinds() -> Vec<Kind> {
    [Kind::Redis70, Kind::Valkey80].into_iter().filter_map(lab::require).collect()
}

#[test]
fn a_whole_setup_passes_and_nothing_is_made_or_changed_redis_70_valkey_80() {
    for kind in kinds() {
        let group = Group::builder(kind).replicas(1).sentinels(3).password(PASSWORD).start().unwrap();
        let desk = Desk::new(group);
        desk.configure(&Setup { store: Some(PASSWORD.to_owned()), ..Setup::default() });
        let before = desk.group.replica(0).info("stats", "total_commands_processed");
        let (exit, said) = check(&desk, &[]);
        assert_eq!(exit, 0, "{said}");
        for expected in [
            "replica.cache.password",
            "may watch",
            "may act",
            "handshake",
            "3 of 3 Sentinels answer",
            "passes; the next reconnect will too",
            "and the replica holds it",
            "no problems",
        ] {
            assert!(said.contains(expected), "{expected:?} is missing: {said}");
        }
        assert_ne!(desk.group.replica(0).info("stats", "total_commands_processed"), before, "nothing was asked");
        assert!(desk.group.replica(0).is_link_up());
        assert_eq!(std::fs::read_dir(desk.agent.dir().join("state")).unwrap().count(), 0, "a file was made");
        assert!(!desk.agent.dir().join("run").exists() && desk.receiver.requests().is_empty());

        let told = desk.json(&["check", "--notify"]);
        assert_eq!(told["ok"], true, "{told:#}");
        let messages = desk.receiver.messages();
        assert_eq!(messages.len(), 1);
        assert_eq!(messages[0]["event"], "resolved", "{:#}", messages[0]);
    }
}

#[test]
fn each_missing_permission_is_named_with_the_command_that_grants_it_redis_70_valkey_80() {
    for kind in kinds() {
        let group = Group::builder(kind).replicas(1).sentinels(1).password(PASSWORD).start().unwrap();
        let desk = Desk::new(group);
        let watching = ["+info", "+role", "+config|get", "+client|setname"];
        let all = ["+multi", "+exec", "+replicaof", "+config|set", "+config|rewrite", "+acl|dryrun"];

        desk.configure(&user_with(&desk, &[&watching[..], &all[..]].concat()));
        let (exit, said) = check(&desk, &[]);
        assert_eq!(exit, 0, "{said}");

        desk.configure(&user_with(&desk, &[&watching[..], &["+multi", "+exec", "+acl|dryrun"]].concat()));
        let (exit, said) = check(&desk, &[]);
        assert_eq!(exit, 77, "{said}");
        let grant = "ACL SETUSER watcher +replicaof '+config|set' '+config|rewrite'";
        assert!(said.contains(grant) && said.contains("user watcher lacks +replicaof"), "{said}");

        desk.configure(&user_with(&desk, &watching));
        let (exit, said) = check(&desk, &[]);
        assert_eq!(exit, 0, "what cannot be tried is no failure: {said}");
        assert!(said.contains("could not be tried") && said.contains("'+acl|dryrun'"), "{said}");

        let watcher = user_with(&desk, &["+role", "+acl|dryrun"]);
        desk.configure(&watcher);
        let (exit, said) = check(&desk, &[]);
        assert_eq!(exit, 77, "{said}");
        assert!(said.contains("ACL SETUSER watcher +info '+config|get' '+client|setname'"), "{said}");

        desk.configure(&Setup { policy: "mode = \"observe\"".to_owned(), ..user_with(&desk, &watching) });
        let (exit, said) = check(&desk, &[]);
        assert!(exit == 0 && said.contains("the policy lets relinkd change nothing"), "{said}");

        desk.configure(&Setup { replica: "user = \"nobody\"".to_owned(), ..watcher });
        let (exit, said) = check(&desk, &[]);
        assert!(exit == 77 && said.contains("correct user and password"), "{said}");
    }
}

#[test]
fn sentinels_are_asked_one_by_one_and_together_redis_70() {
    let Some(kind) = lab::require(Kind::Redis70) else { return };
    let desk = Desk::new(Group::builder(kind).replicas(1).sentinels(3).password(PASSWORD).start().unwrap());
    let whole = Setup { store: Some(PASSWORD.to_owned()), ..Setup::default() };
    desk.configure(&whole);
    let right = std::fs::read_to_string(desk.agent.config_path()).unwrap();

    desk.agent.write_file("config.toml", &right.replace("mymaster", "mymastr")).unwrap();
    let (exit, said) = check(&desk, &[]);
    assert_eq!(exit, 1, "{said}");
    assert!(said.contains("knows no group \"mymastr\"; it knows mymaster"), "{said}");
    assert!(said.contains("[group.mymaster]"), "{said}");

    let one = format!("\"{}\"", desk.group.sentinel(0).address());
    let only_one: String = right
        .lines()
        .map(|line| if line.starts_with("sentinels") { format!("sentinels = [{one}]\n") } else { format!("{line}\n") })
        .collect();
    desk.agent.write_file("config.toml", &only_one).unwrap();
    let (exit, said) = check(&desk, &[]);
    assert!(said.contains("1 Sentinels are configured, and they know of 3"), "{said}");
    assert!(said.contains(&desk.group.sentinel(2).address()), "the missing ones are named: {said}");
    assert_eq!(exit, 69, "one of three is no majority: {said}");

    desk.agent.write_file("config.toml", &right).unwrap();
    let killed = fault::kill(desk.group.sentinel(1));
    let (exit, said) = check(&desk, &[]);
    assert_eq!(exit, 69, "{said}");
    assert!(said.contains("2 of 3 Sentinels answer") && said.contains("connection refused"), "{said}");
    killed.undo().unwrap();

    let frozen = fault::freeze(desk.group.sentinel(2)).unwrap();
    let (exit, said) = check(&desk, &[]);
    assert!(exit == 69 && said.contains("no answer in time"), "{said}");
    frozen.undo().unwrap();
}

#[test]
fn a_sentinels_permissions_are_tried_and_failover_only_where_the_policy_asks_for_it_redis_70() {
    let Some(kind) = lab::require(Kind::Redis70) else { return };
    let desk = Desk::new(Group::builder(kind).replicas(1).sentinels(1).password(PASSWORD).start().unwrap());
    let rules = ["ACL", "SETUSER", "watcher", "reset", "on", ">check-CANARY-1", "&*"];
    let reads = ["+sentinel|master", "+sentinel|replicas", "+sentinel|ckquorum", "+sentinel|myid", "+info"];
    let rest = ["+sentinel|info-cache", "+sentinel|sentinels", "+sentinel|masters", "+client|setname"];
    let grant = |more: &[&str]| {
        let words = [&rules[..], &reads[..], &rest[..], more].concat();
        desk.group.sentinel(0).query::<String>(&words).unwrap();
    };
    let secret = desk.agent.write_file("sentinel", PASSWORD).unwrap();
    let group = format!("sentinel_user = \"watcher\"\nsentinel_password = {{ file = \"{}\" }}", secret.display());
    desk.configure(&Setup { group: group.clone(), ..Setup::default() });

    let (known, untold) = (["+acl|dryrun", "+sentinel|failover"], ["-info", "-sentinel|info-cache"]);
    grant(&[known, untold].concat());
    let (exit, said) = check(&desk, &[]);
    assert_eq!(exit, 0, "the rest works without: {said}");
    assert!(said.contains("user watcher lacks +sentinel|info-cache +info, needed for request-failover"), "{said}");
    assert!(said.contains("ACL SETUSER watcher '+sentinel|info-cache' +info"), "{said}");

    grant(&["+acl|dryrun", "+psubscribe", "+subscribe"]);
    let (exit, said) = check(&desk, &[]);
    assert_eq!(exit, 77, "{said}");
    assert!(said.contains("ACL SETUSER watcher '+sentinel|failover'"), "{said}");

    let propose = "[policy.request-failover]\nmode = \"propose\"".to_owned();
    desk.configure(&Setup { group, policy: propose, ..Setup::default() });
    let (exit, said) = check(&desk, &[]);
    assert_eq!(exit, 0, "a proposal needs no permission yet: {said}");
    assert!(said.contains("lacks +sentinel|failover"), "{said}");

    grant(&["+acl|dryrun", "+sentinel|failover"]);
    let (exit, said) = check(&desk, &[]);
    assert!(exit == 0 && said.contains("+subscribe +psubscribe '&*'"), "{said}");

    desk.group.sentinel(0).query::<String>(&[&rules[..], &["+@all", "-sentinel"]].concat()).unwrap();
    let (exit, said) = check(&desk, &[]);
    assert!(exit == 77 && said.contains("+sentinel|master"), "{said}");
}

/// Replicas that log in as an ACL user: what a failover needs of the others shows before one is needed.
#[test]
fn what_a_failover_would_lack_at_the_other_replicas_is_told_with_its_node_and_rule_redis_70() {
    let Some(kind) = lab::require(Kind::Redis70) else { return };
    let group = Group::builder(kind).replicas(2).sentinels(1).acl_user("repl", PASSWORD).start().unwrap();
    let desk = Desk::new(group);
    let whole = Setup { store: Some(PASSWORD.to_owned()), ..Setup::default() };
    desk.configure(&whole);
    let (own, other) = (desk.group.replica(0), desk.group.replica(1));
    let set = |server: &lab::Server, user: &str, rules: &[&str]| {
        server.query::<String>(&[&["ACL", "SETUSER", user], rules].concat()).unwrap();
    };
    let line = |server: &lab::Server, user: &str, rules: &str| {
        let (host, port) = server.endpoint();
        format!("redis-cli -h {host} -p {port} ACL SETUSER {user} {rules} ")
    };
    let told = || {
        let (exit, said) = check(&desk, &[]);
        assert_eq!(exit, 0, "relinkd does the rest of its work: {said}");
        said
    };
    // Each is a line in ACL LOG.
    let refused = |server: &lab::Server| {
        let stats: String = server.query(&["INFO", "errorstats"]).unwrap();
        let of_ours = |line: &&str| line.starts_with("errorstat_NOPERM") || line.starts_with("errorstat_WRONGPASS");
        stats.lines().filter(of_ours).map(str::to_owned).collect::<Vec<_>>()
    };

    // The same users everywhere, as a rule: what lacks here is not tried there.
    let said = told();
    assert!(said.contains("user repl lacks +info here") && said.contains("request-failover never passes"), "{said}");
    assert!(said.contains(&line(own, "repl", "+info")) && said.contains(&line(other, "repl", "+info")), "{said}");
    assert!(said.contains("observer = {"), "{said}");
    assert_eq!(refused(other), Vec::<String>::new());

    set(own, "repl", &["+info"]);
    set(other, "repl", &["-psync"]);
    let said = told();
    assert!(said.contains("would be held, latent-auth-mismatch") && said.contains("PSYNC → NOPERM"), "{said}");
    assert!(said.contains(&line(other, "repl", "+psync +info")), "{said}");
    assert!(!said.contains(&line(own, "repl", "+info")), "{said}");

    set(other, "repl", &["+psync"]);
    let said = told();
    assert!(said.contains("would be held, evidence-missing: INFO of"), "{said}");
    assert!(said.contains(&line(other, "repl", "+info")), "{said}");

    // An observer has rights of its own.
    let watch = format!(">{PASSWORD}");
    for node in desk.group.nodes() {
        set(node, "watch", &["reset", "on", &watch, "+ping"]);
    }
    let secret = desk.agent.write_file("observer", PASSWORD).unwrap();
    let observer = format!("observer = {{ user = \"watch\", password = {{ file = \"{}\" }} }}", secret.display());
    desk.configure(&Setup { group: observer, ..whole });
    let said = told();
    assert!(said.contains("asked as watch") && said.contains(&line(other, "watch", "+info")), "{said}");
    desk.group.nodes().iter().for_each(|node| set(node, "watch", &["+info", "+client|setname"]));
    let said = told();
    assert!(said.contains("other replicas that tell of themselves, and take this one in: 1"), "{said}");

    set(other, "repl", &["resetpass", ">another-CANARY-2"]);
    let said = told();
    assert!(said.contains("latent-auth-mismatch") && said.contains("AUTH with its masterauth → WRONGPASS"), "{said}");

    // Where no failover is asked for, nobody is asked.
    let before = refused(other);
    let watching = "[policy.request-failover]\nmode = \"observe\"".to_owned();
    desk.configure(&Setup { store: Some(PASSWORD.to_owned()), policy: watching, ..Setup::default() });
    assert!(!told().contains("latent-auth-mismatch"));
    assert_eq!(refused(other), before);
}

#[test]
fn stores_primaries_and_places_that_will_not_do_are_told_redis_70() {
    let Some(kind) = lab::require(Kind::Redis70) else { return };
    let desk = Desk::new(Group::builder(kind).replicas(1).sentinels(1).password(PASSWORD).start().unwrap());
    desk.configure(&Setup { store: Some("wrong-CANARY-2".to_owned()), ..Setup::default() });
    let (exit, said) = check(&desk, &[]);
    assert_eq!(exit, 1, "{said}");
    assert!(said.contains("AUTH: WRONGPASS") && said.contains("correct the store"), "{said}");

    desk.configure(&Setup { store: Some(PASSWORD.to_owned()), ..Setup::default() });
    let masterauth = desk.agent.dir().join("masterauth");
    std::fs::set_permissions(&masterauth, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let (exit, said) = check(&desk, &[]);
    assert!(exit == 0 && said.contains("chmod o= ") && said.contains("1 warning"), "{said}");

    std::fs::remove_file(&masterauth).unwrap();
    std::fs::remove_dir(desk.agent.dir().join("state")).unwrap();
    let (exit, said) = check(&desk, &[]);
    assert_eq!(exit, 1, "{said}");
    assert!(said.contains("no such file") && said.contains("StateDirectory=relinkd"), "{said}");

    desk.configure(&Setup { store: Some(PASSWORD.to_owned()), ..Setup::default() });
    desk.agent.write_file("url", "https//CANARY.example/hook").unwrap();
    let (exit, said) = check(&desk, &[]);
    assert!(exit == 1 && said.contains("does not hold a URL"), "{said}");
    desk.agent.write_file("url", &desk.receiver.url()).unwrap();
    desk.receiver.answer_next([lab::Answer::status(500)]);
    let (exit, said) = check(&desk, &["--notify"]);
    assert!(exit == 69 && said.contains("HTTP 500"), "{said}");

    let killed = fault::kill(desk.group.primary());
    let (exit, said) = check(&desk, &[]);
    assert!(exit == 69 && said.contains("connection refused"), "{said}");
    killed.undo().unwrap();

    let killed = fault::kill(desk.group.replica(0));
    let (exit, said) = check(&desk, &[]);
    assert!(exit == 69 && said.contains("the daemon itself would start, and wait for it"), "{said}");
    let (exit, said) = check(&desk, &["--offline"]);
    assert!(exit == 0 && said.contains("1 instance, 1 group, 1 channel"), "offline asks nobody: {said}");
    killed.undo().unwrap();
}

/// In the middle of a rotation the store's newest password is one that this instance does not know yet.
#[test]
fn the_former_password_of_the_store_is_used_where_the_instance_takes_only_that_redis_70() {
    let Some(kind) = lab::require(Kind::Redis70) else { return };
    let group = Group::builder(kind).replicas(1).sentinels(1).password(PASSWORD).start().unwrap();
    let desk = Desk::new(group);
    let both = r#"{"password":"check-CANARY-2","previous":"check-CANARY-1"}"#;
    desk.configure(&Setup { store: Some(PASSWORD.to_owned()), ..Setup::default() });
    desk.agent.write_file("replica-password", both).unwrap();
    let is_seen = |word: &str| {
        let said = desk.json(&["diagnose"]);
        assert_eq!(said["evidence"]["local"]["seen"]["run_id"].as_str().map(str::len), Some(40), "{word}: {said:#}");
    };
    is_seen("the former");
    desk.group.replica(0).query::<String>(&["CONFIG", "SET", "requirepass", "check-CANARY-2"]).unwrap();
    is_seen("the newest");
}
