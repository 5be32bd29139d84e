//! What is told to be run has to mend, and to be the least of it.

use super::*;

/// What the checks of this name say to run.
fn mends(view: &GroupView, name: &str) -> Vec<String> {
    let checks = judge(view, OUTAGE).into_iter().filter(|check| check.name == name && check.verdict != Verdict::Pass);
    let mut all: Vec<String> = checks.flat_map(|check| check.mend).collect();
    all.dedup();
    all
}

#[test]
fn a_command_that_fails_ends_the_line_or_stands_alone() {
    let mut view = sound();
    settings_of(&mut view, 3).backlog_size = 1 << 20;
    assert!(mends(&view, "backlog")[0].contains(" -e CONFIG SET repl-backlog-size "));
    (1..=3).for_each(|number| server_of(&mut view, number).version = "6.2.14".into());
    let old = mends(&view, "backlog");
    assert_eq!(old.len(), 2, "{old:?}");
    assert!(old[1].ends_with("CONFIG REWRITE") && !old.concat().contains("&&"), "{old:?}");
}

#[test]
fn tls_stands_on_the_command_lines_of_a_group_that_speaks_it() {
    let mut view = sound();
    view.tls = Some("--tls --cacert /ca.pem".into());
    for number in 1..=3 {
        settings_of(&mut view, number).tls_replication = number != 1;
        settings_of(&mut view, number).backlog_size = 1 << 20;
    }
    let lines = mends(&view, "backlog");
    assert!(!lines[0].contains("--tls"), "{lines:?}");
    assert!(lines[1].contains(" -p 6379 --tls --cacert /ca.pem -e CONFIG SET"), "{lines:?}");
    says_all(&mut view, |says| says.quorum = 1);
    assert!(mends(&view, "quorum-setting")[0].contains("--tls"));
}

#[test]
fn rare_pings_are_mended_and_not_waited_for() {
    let mut view = sound();
    settings_of(&mut view, 3).ping_period_s = 70;
    let lines = mends(&view, "repl-timeout");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("10.0.0.3") && lines[0].contains("repl-ping-replica-period 10"), "{lines:?}");
    let mut view = sound();
    settings_of(&mut view, 3).repl_timeout_s = 8;
    assert!(mends(&view, "repl-timeout")[0].contains("repl-timeout 60"));
}

#[test]
fn the_odd_one_is_brought_in_line() {
    let mut view = sound();
    settings_of(&mut view, 2).serve_stale_data = false;
    let lines = mends(&view, "stale-data");
    assert!(lines.len() == 1 && lines[0].contains("10.0.0.2") && lines[0].contains("stale-data yes"), "{lines:?}");
}

#[test]
fn a_login_is_mended_with_its_user() {
    let mut view = sound();
    for number in 1..=3 {
        settings_of(&mut view, number).masteruser = "repl".into();
    }
    let bare = settings_of(&mut view, 1);
    (bare.masteruser, bare.masterauth_set, bare.login) = (String::new(), false, "none".into());
    for number in 1..=3 {
        let mut refused = proof("none", number);
        (refused.probe.auth, refused.probe.ping) = (Answer::NotAsked, error("NOAUTH Authentication required."));
        view.logins.push(refused);
    }
    let lines = mends(&view, "masterauth");
    assert!(lines[0].contains("10.0.0.1") && lines[0].contains("CONFIG SET masteruser repl"), "{lines:?}");
    assert!(!lines.concat().contains("SETUSER"), "it has no user that could be let in: {lines:?}");

    let mut view = sound();
    settings_of(&mut view, 3).masteruser = "repl".into();
    view.logins[1].probe.auth = error("WRONGPASS no");
    let lines = mends(&view, "masterauth");
    let setuser: Vec<&String> = lines.iter().filter(|line| line.contains("SETUSER")).collect();
    assert!(setuser.iter().all(|line| line.contains(" -h 10.0.0.2 ")), "{lines:?}");
    assert!(setuser.iter().any(|line| line.contains("SETUSER repl on ")), "{lines:?}");
}

#[test]
fn a_priority_that_was_raised_is_waited_for() {
    let mut view = sound();
    says_all(&mut view, |says| says.replicas.iter_mut().for_each(|replica| replica.priority = 0));
    assert_eq!(mends(&view, "candidates"), ["run the audit again in 10 s"]);
}

#[test]
fn a_renamed_command_is_not_asked_for_as_a_right() {
    let mut view = sound();
    view.nodes[1].settings = Reading::Missing(Missing::Unsupported("ERR unknown command 'CONFIG'".into()));
    let lines = mends(&view, "settings-readable").concat();
    assert!(lines.contains("rename-command") && !lines.contains("SETUSER"), "{lines}");
}

#[test]
fn advice_uses_the_program_of_the_group() {
    let mut view = sound();
    (1..=3).for_each(|number| server_of(&mut view, number).flavour = Flavour::Valkey);
    view.nodes[2].account = denied();
    view.nodes[2].settings = denied();
    let lines = mends(&view, "node-reachable").concat();
    assert!(lines.contains("valkey-cli") && !lines.contains("redis-cli"), "{lines}");
}

#[test]
fn a_sentinel_that_is_gone_can_be_forgotten() {
    let mut view = sound();
    view.sentinels[2].says = Reading::Missing(Missing::TimedOut);
    assert!(mends(&view, "sentinels-reachable").concat().contains("SENTINEL RESET mymaster"));
}

#[test]
fn a_login_that_is_not_text_is_named_so() {
    let mut view = sound();
    settings_of(&mut view, 3).login_not_text = true;
    let checks = judge(&view, OUTAGE);
    let unseen = checks.iter().find(|check| check.verdict == Verdict::Unseen).unwrap();
    assert!(unseen.name == "masterauth" && unseen.saw.contains("UTF-8"), "{unseen:?}");
}

/// A whole SETUSER is refused for a channel that an `allchannels` user holds already.
#[test]
fn a_sentinels_user_is_given_what_it_lacks_and_no_more() {
    let told = |lacks: &[&str]| {
        let mut view = sound();
        let lacks = lacks.iter().map(|rule| (*rule).to_owned()).collect();
        view.nodes[1].rights =
            Reading::Seen(Rights { sentinels: [("snt;reboot".to_owned(), lacks)].into(), ..Rights::default() });
        mends(&view, "sentinel-acl")
    };
    let set = "redis-cli -h 10.0.0.2 -p 6379 ACL SETUSER 'snt;reboot'";
    let save = "   # then CONFIG REWRITE, or ACL SAVE with an aclfile";
    let lines = told(&["+slaveof", "+config|rewrite", "+publish"]);
    assert_eq!(lines[0], format!("{set} +slaveof '+config|rewrite' +publish{save}"));
    assert!(lines.len() == 2 && lines[1].starts_with("run the audit again"), "{lines:?}");
    assert_eq!(told(&["&__sentinel__:hello"]), [format!("{set} '&__sentinel__:hello'{save}")]);
}

/// Hosts, users, files and the group's name are words that others chose.
#[test]
fn a_strange_word_stays_one_word_of_every_command() {
    const EVIL: &str = "$(reboot);x\ny";
    const TAME: &str = "'$(reboot);x?y'";
    let mut view = sound();
    view.name = EVIL.into();
    let strange = Endpoint::new(EVIL, 6379);
    view.nodes[2].address = strange.clone();
    view.logins[2].at = strange.clone();
    view.sentinels[2].endpoint = Endpoint::new(EVIL, 26379);
    says_all(&mut view, |says| (says.quorum, says.replicas[1].endpoint) = (1, strange.clone()));
    for number in 1..=3 {
        let settings = settings_of(&mut view, number);
        (settings.masteruser, settings.backlog_size, settings.announce_port) = (EVIL.into(), 1 << 20, 22);
    }
    settings_of(&mut view, 3).announce_ip = "db3".into();
    for proof in &mut view.logins {
        proof.probe.user = EVIL.into();
        proof.probe.psync = error("NOPERM no");
    }
    view.logins[1].probe.auth = error("WRONGPASS no");
    (server_of(&mut view, 3).keys, server_of(&mut view, 3).rdb_last_save_ok) = (0, false);
    says_all(&mut view, |says| says.replicas[0].flags = flags(&["slave", "s_down", "disconnected"]));
    view.sentinels[0].ghosts = Reading::Seen(vec!["10.0.0.3:0".into()]);
    let lines: Vec<String> = judge(&view, OUTAGE).into_iter().flat_map(|check| check.mend).collect();
    let commands: Vec<&String> = lines.iter().filter(|line| line.contains("-cli ") || line.contains("   # ")).collect();
    for what in ["-h '", "SENTINEL SET '", "SENTINEL RESET '", "SETUSER '", "replica-announce-ip '", "# on '"] {
        assert!(commands.iter().any(|line| line.contains(what)), "{what}: {commands:#?}");
    }
    for line in commands {
        assert!(!line.replace(TAME, "").contains("reboot"), "{line}");
    }
    view.nodes[1].address = Endpoint::new("/run/a b.sock", 0);
    let lines: Vec<String> = judge(&view, OUTAGE).into_iter().flat_map(|check| check.mend).collect();
    assert!(lines.iter().any(|line| line.contains("redis-cli -s '/run/a b.sock'")), "{lines:#?}");
}
