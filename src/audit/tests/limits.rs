//! Rates, limits and room, where a wrong figure would make a healthy group fail, or a sick one pass.

use super::*;

fn rate(view: &mut GroupView, number: usize, bytes: u64) {
    view.nodes[number - 1].growth = Reading::Seen(Growth { bytes, over_ms: 1_000 });
}

fn disk(view: &mut GroupView, free: u64) {
    view.nodes[1].disk = Reading::Seen(Disk { at: NOW, path: "/d".into(), total: free, free, inodes_free: Some(9) });
}

#[test]
fn limits_are_judged_as_the_servers_do() {
    each(&[
        ("a replica catches up", |v| rate(v, 3, 400 << 20), &[]),
        (
            "the primary cannot be read, and a replica catches up",
            |v| {
                v.nodes[0].growth = Reading::Missing(Missing::TimedOut);
                rate(v, 3, 400 << 20);
            },
            &[],
        ),
        (
            "a small data set at a high rate: a diskless sync that is waited for keeps nothing",
            |v| {
                for number in 1..=3 {
                    rate(v, number, 67 << 20);
                    settings_of(v, number).backlog_size = 8 << 30;
                    // No limit is raised by the backlog there.
                    server_of(v, number).version = "6.2.14".into();
                    if let Reading::Seen(account) = &mut v.nodes[number - 1].account {
                        (account.data_bytes, account.host_memory) = (3 << 20, 64 << 30);
                    }
                }
            },
            &[],
        ),
        (
            "a soft limit of 0 seconds",
            |v| {
                (settings_of(v, 3).output_hard, settings_of(v, 3).output_soft, settings_of(v, 3).output_soft_s) =
                    (0, 1 << 20, 0)
            },
            &["fail output-buffer 3"],
        ),
        (
            "replicas that keep the stream themselves",
            |v| {
                (1..=3).for_each(|number| settings_of(v, number).rdb_channel = true);
                (settings_of(v, 3).output_hard, settings_of(v, 3).backlog_size) = (1 << 20, 1 << 20);
            },
            &["warn backlog 3", "warn output-buffer 3"],
        ),
        ("a backlog that is given up", |v| settings_of(v, 3).backlog_ttl_s = 2, &["warn backlog 3"]),
        ("a backlog that is kept for ever", |v| settings_of(v, 3).backlog_ttl_s = 0, &[]),
        (
            "a full disk, and an RDB that is small",
            |v| {
                disk(v, 60 << 20);
                v.nodes[1].rdb_bytes = Reading::Seen(6 << 20);
            },
            &[],
        ),
        (
            "a disk that the last RDB would fill",
            |v| {
                disk(v, 60 << 20);
                v.nodes[1].rdb_bytes = Reading::Seen(61 << 20);
            },
            &["fail disk 2"],
        ),
        (
            "an RDB of a time with other data",
            |v| {
                disk(v, 500 << 20);
                v.nodes[1].rdb_bytes = Reading::Seen(172);
            },
            &["warn disk 2"],
        ),
        (
            "the data set fits, and not with what a sync takes",
            |v| {
                (1..=3).for_each(|number| {
                    rate(v, number, 8 << 20);
                    (settings_of(v, number).backlog_size, settings_of(v, number).output_hard) = (1 << 30, 1 << 30);
                    settings_of(v, number).output_soft = 0;
                    if let Reading::Seen(account) = &mut v.nodes[number - 1].account {
                        account.host_memory = if number == 3 { 1200 << 20 } else { 8 << 30 };
                    }
                })
            },
            &["warn memory 3"],
        ),
        ("maxmemory above the host's memory", |v| server_of(v, 3).maxmemory = 100 << 30, &["warn memory 3"]),
        ("a disk below the data set, and no RDB to measure", |v| disk(v, 500 << 20), &["warn disk 2"]),
    ]);
}

/// Only saves need the disk then.
#[test]
fn a_sync_into_memory_is_not_said_to_need_the_disk() {
    let mut view = sound();
    disk(&mut view, 9);
    settings_of(&mut view, 2).diskless_load = "swapdb".into();
    let check = judge(&view, OUTAGE).into_iter().find(|check| check.name == "disk").unwrap();
    assert!(check.means.contains("a save would fail") && !check.means.contains("sync"), "{}", check.means);
    assert!(!check.mend.iter().any(|mend| mend.contains("swapdb")), "{:?}", check.mend);
}
