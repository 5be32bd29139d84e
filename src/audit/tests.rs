//! One sound group, one thing changed at a time.

use std::collections::BTreeSet;

use super::*;
use crate::model::evidence::{
    Answer, Connect, Disk, LinkState, LinkView, Memory, Missing, Probe, Quorum, Reading, ReplicaInSentinel, Role,
    SentinelSays,
};
use crate::model::evidence::{Flavour, ReplicaOfPrimary, ServerView};
use crate::model::group::{
    GroupSentinel, Growth, LoginProof, NodeAccount, NodeSettings, Restart, Rights, SentinelPeer,
};
use crate::model::{Timestamp, size};

mod addresses;
mod advice;
mod limits;
mod nodes;
mod sentinels;
mod world;

use world::*;

#[test]
fn a_sound_group_passes_every_check() {
    assert_eq!(told(&sound()), Vec::<String>::new());
    let checks = judge(&sound(), OUTAGE);
    assert_eq!(survives(&checks), Some(true));
    let names: BTreeSet<&str> = checks.iter().map(|check| check.name).collect();
    assert!(names.len() >= 30, "{names:?}");
}

#[test]
fn a_fail_outweighs_what_was_not_seen_and_that_outweighs_a_pass() {
    let of = |verdicts: &[Verdict]| {
        survives(&verdicts.iter().map(|verdict| Check::new("x", *verdict, "", "")).collect::<Vec<_>>())
    };
    assert_eq!(of(&[Verdict::Pass, Verdict::Warn]), Some(true));
    assert_eq!(of(&[Verdict::Unseen, Verdict::Warn]), None);
    assert_eq!(of(&[Verdict::Unseen, Verdict::Fail]), Some(false));
}

#[test]
fn limits_that_do_not_fit_are_told() {
    each(&[
        ("a small backlog", |v| settings_of(v, 2).backlog_size = 1 << 20, &["warn backlog 2"]),
        (
            "no offset could be read twice",
            |v| v.nodes.iter_mut().for_each(|node| node.growth = Reading::Missing(Missing::TimedOut)),
            &[
                "unseen write-rate",
                "unseen backlog 1",
                "unseen output-buffer 1",
                "unseen backlog 2",
                "unseen output-buffer 2",
                "unseen backlog 3",
                "unseen output-buffer 3",
            ],
        ),
        (
            "a buffer that the writes of one sync fill",
            |v| (settings_of(v, 3).output_hard, settings_of(v, 3).backlog_size) = (1 << 20, 64 << 20),
            &["warn output-buffer 3"],
        ),
        (
            "a soft limit that stays exceeded for too long",
            |v| {
                v.nodes.iter_mut().for_each(|node| {
                    node.growth = Reading::Seen(Growth { bytes: 4 << 20, over_ms: 1_000 });
                });
                for number in 1..=3 {
                    let settings = settings_of(v, number);
                    (settings.backlog_size, settings.output_hard) = (256 << 20, 1 << 30);
                }
                (settings_of(v, 3).output_soft, settings_of(v, 3).output_soft_s) = (1 << 20, 10);
            },
            &["fail output-buffer 3"],
        ),
        (
            "the same on a server whose backlog does not raise it",
            |v| {
                (1..=3).for_each(|n| server_of(v, n).version = "6.2.14".into());
                settings_of(v, 3).output_hard = 1 << 20;
            },
            &["fail output-buffer 3"],
        ),
        ("no limit at all", |v| (settings_of(v, 3).output_hard, settings_of(v, 3).output_soft) = (0, 0), &[]),
        (
            "timeout below a peer's ping",
            |v| settings_of(v, 3).ping_period_s = 60,
            &["fail repl-timeout 1", "fail repl-timeout 2", "fail repl-timeout 3"],
        ),
        ("timeout close to the ping", |v| settings_of(v, 3).repl_timeout_s = 15, &["warn repl-timeout 3"]),
        (
            "no room for an RDB",
            |v| {
                v.nodes[1].disk =
                    Reading::Seen(Disk { at: NOW, path: "/d".into(), total: 9, free: 9, inodes_free: Some(9) })
            },
            &["fail disk 2"],
        ),
        (
            "no room, and none needed",
            |v| {
                v.nodes[1].disk =
                    Reading::Seen(Disk { at: NOW, path: "/d".into(), total: 9, free: 9, inodes_free: Some(9) });
                let settings = settings_of(v, 2);
                settings.save.clear();
                settings.diskless_load = "swapdb".into();
            },
            &["warn persistence 2"],
        ),
        ("the disk was not read", |v| v.nodes[1].disk = Reading::Missing(Missing::TimedOut), &["unseen disk 2"]),
        (
            "no memory for two copies",
            |v| {
                settings_of(v, 2).diskless_load = "swapdb".into();
                v.nodes[1].memory = Reading::Seen(Memory { at: NOW, total: 8 << 30, available: 1 << 20 });
            },
            &["fail memory 2"],
        ),
        ("maxmemory below the data set", |v| server_of(v, 3).maxmemory = 1 << 20, &["warn memory 3"]),
    ]);
}

#[test]
fn what_was_not_read_is_unseen_and_never_a_pass() {
    each(&[
        (
            "a node that does not let us read",
            |v| {
                v.nodes[2].account = Reading::Missing(Missing::Denied("NOPERM".into()));
                v.nodes[2].settings = Reading::Missing(Missing::Denied("NOPERM".into()));
            },
            &["unseen node-reachable 3", "unseen masterauth 3"],
        ),
        (
            "settings that are not shown",
            |v| v.nodes[2].settings = Reading::Missing(Missing::Denied("NOPERM".into())),
            &["unseen settings-readable 3", "unseen masterauth 3"],
        ),
        ("a secret that could not be fetched", |v| v.unfetched = vec!["file:/x: absent".into()], &["unseen secrets"]),
    ]);
    let mut view = sound();
    view.nodes[2].account = Reading::Missing(Missing::Denied("NOPERM".into()));
    assert_eq!(survives(&judge(&view, OUTAGE)), None);
}

#[test]
fn a_backlog_is_recommended_that_covers_the_outage() {
    let mut view = sound();
    settings_of(&mut view, 3).backlog_size = 1 << 20;
    let checks = judge(&view, Duration::from_secs(600));
    let small = checks.iter().find(|check| check.name == "backlog" && check.node == Some(at(3))).unwrap();
    // 1 MiB/s for 600 s, rounded up to a power of two.
    let set = "redis-cli -h 10.0.0.3 -p 6379 -e CONFIG SET repl-backlog-size 1073741824 && redis-cli -h 10.0.0.3 -p 6379 CONFIG REWRITE";
    assert_eq!(small.mend, [set]);
}

#[test]
fn sizes_read_like_speech() {
    let said: Vec<String> = [0, 1023, 1024, 1536, 1 << 20, (3 << 30) / 2, u64::MAX].into_iter().map(size).collect();
    assert_eq!(said, ["0 B", "1023 B", "1 KiB", "1.5 KiB", "1 MiB", "1.5 GiB", "16777215.9 TiB"]);
}

/// What stands on a command line shows in the process list.
#[test]
fn advice_puts_no_password_on_a_command_line() {
    let mut view = sound();
    for number in 1..=3 {
        says_of(&mut view, number).flags.insert("s_down".into());
    }
    for proof in &mut view.logins {
        proof.probe.auth = Answer::Error { code: "WRONGPASS".into(), text: "WRONGPASS no".into() };
    }
    view.nodes[2].account = Reading::Missing(Missing::Denied("NOPERM".into()));
    let advice: Vec<String> = judge(&view, OUTAGE).into_iter().flat_map(|check| check.mend).collect();
    let secret = ["SENTINEL SET mymaster auth-pass", "CONFIG SET masterauth", "ACL SETUSER observer"];
    for command in secret {
        let lines: Vec<&String> = advice.iter().filter(|line| line.contains(command)).collect();
        assert!(!lines.is_empty(), "{command}: {advice:#?}");
        assert!(lines.iter().all(|line| line.contains("PWFILE") && line.contains(" -x ")), "{lines:#?}");
    }
    assert!(!advice.iter().any(|line| line.contains("PASSWORD")), "{advice:#?}");
}

/// What a mend of the audit's sets, as the server would have it.
fn apply(view: &mut GroupView, mends: &[String]) {
    for mend in mends.iter().filter(|mend| mend.contains("CONFIG SET")) {
        let node = (1..=3).find(|number| mend.contains(&format!(" 10.0.0.{number} "))).expect("a node");
        let (_, set) = mend.split_once("CONFIG SET ").unwrap();
        let (name, value) = set.split_once(' ').unwrap();
        let quoted = |text: &str| text.trim_start_matches('\'').split('\'').next().unwrap().to_owned();
        let value = if value.starts_with('\'') { quoted(value) } else { value.split(' ').next().unwrap().to_owned() };
        let settings = settings_of(view, node);
        match name {
            "repl-backlog-size" => settings.backlog_size = value.parse().unwrap(),
            "repl-diskless-load" => settings.diskless_load = value,
            "client-output-buffer-limit" => {
                let numbers: Vec<u64> = value.split(' ').skip(1).map(|number| number.parse().unwrap()).collect();
                (settings.output_hard, settings.output_soft, settings.output_soft_s) =
                    (numbers[0], numbers[1], numbers[2]);
            }
            _ => panic!("{mend}"),
        }
    }
}

#[test]
fn what_the_audit_recommends_passes_the_audit() {
    for data_gib in [1, 12, 20, 100] {
        for rate_mib in [1, 2, 10, 40] {
            for (hard, soft) in [(256 << 20, 64 << 20), (1 << 30, 0), (0, 64 << 20), (4 << 30, 2 << 30)] {
                let mut view = sound();
                for number in 1..=3 {
                    let account = match &mut view.nodes[number - 1].account {
                        Reading::Seen(account) => account,
                        Reading::Missing(_) => panic!(),
                    };
                    (account.data_bytes, account.host_memory) = (data_gib << 30, 512 << 30);
                    if let Reading::Seen(memory) = &mut view.nodes[number - 1].memory {
                        memory.available = 512 << 30;
                    }
                    view.nodes[number - 1].growth = Reading::Seen(Growth { bytes: rate_mib << 20, over_ms: 1_000 });
                    (settings_of(&mut view, number).output_hard, settings_of(&mut view, number).output_soft) =
                        (hard, soft);
                }
                let sized = |view: &GroupView| {
                    let checks = judge(view, OUTAGE).into_iter();
                    checks.filter(|check| ["backlog", "output-buffer"].contains(&check.name)).collect::<Vec<_>>()
                };
                for check in sized(&view) {
                    apply(&mut view, &check.mend);
                }
                let case = format!("{data_gib} GiB, {rate_mib} MiB/s, {hard} {soft}");
                assert!(sized(&view).iter().all(|check| check.verdict == Verdict::Pass), "{case}: {:#?}", sized(&view));
                let now = settings_of(&mut view, 1);
                assert!(now.output_hard >= hard && now.output_soft >= soft, "{case}: none is lowered");
                assert_eq!((hard == 0, soft == 0), (now.output_hard == 0, now.output_soft == 0), "{case}");
            }
        }
    }
}

#[test]
fn no_advice_asks_for_memory_that_is_not_there() {
    let mends = |name: &str, change: &dyn Fn(&mut GroupView)| -> String {
        let mut view = sound();
        change(&mut view);
        let checks = judge(&view, OUTAGE).into_iter().filter(|check| check.name == name);
        checks.flat_map(|check| check.mend).collect::<Vec<_>>().join("; ")
    };
    let no_disk = |available: u64| {
        mends("disk", &move |v| {
            v.nodes[1].disk =
                Reading::Seen(Disk { at: NOW, path: "/d".into(), total: 9, free: 9, inodes_free: Some(9) });
            v.nodes[1].memory = Reading::Seen(Memory { at: NOW, total: 8 << 30, available });
        })
    };
    assert!(no_disk(4 << 30).contains("swapdb"));
    assert!(!no_disk(1 << 20).contains("swapdb"), "two copies do not fit");
    let backlog = |rate: u64| {
        mends("backlog", &move |v| {
            v.nodes.iter_mut().for_each(|node| node.growth = Reading::Seen(Growth { bytes: rate, over_ms: 1_000 }));
        })
    };
    assert!(backlog(4 << 20).contains("CONFIG SET repl-backlog-size"));
    let huge = backlog(1 << 30);
    assert!(!huge.contains("CONFIG SET") && huge.contains("--outage"), "{huge}");
}
