//! The parsers over what real servers answered. The captures in `tests/data/replies/` are raw bytes from a group of
//! one primary, one replica and three Sentinels; `orphan-*` and `*-down` were taken just after the primary was
//! killed.

use std::path::PathBuf;

use super::sentinel::{Answers, NEVER_MS};
use super::*;
use crate::model::Timestamp;
use crate::model::evidence::{Flavour, Reading, Role, ServerView};
use crate::secrets::Salt;
use crate::wire::resp::{CAP, Decoder};

const SERVERS: [(&str, Flavour); 4] = [
    ("redis-7.0.15", Flavour::Redis),
    ("redis-8.2.3", Flavour::Redis),
    ("valkey-8.0.1", Flavour::Valkey),
    ("valkey-9.1.2", Flavour::Valkey),
];
const NOW: Timestamp = Timestamp(1);
const SALT: Salt = Salt([7; 16]);

fn captured(server: &str, name: &str) -> Vec<Reply> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/replies/{server}/{name}.resp"));
    let bytes = std::fs::read(path).unwrap();
    let mut rest = bytes.as_slice();
    let mut replies = Vec::new();
    while !rest.is_empty() {
        let (reply, length) = Decoder::new(CAP).advance(rest).unwrap().unwrap();
        replies.push(reply);
        rest = &rest[length..];
    }
    replies
}

fn one(server: &str, name: &str) -> Reply {
    let mut replies = captured(server, name);
    assert_eq!(replies.len(), 1, "{server}/{name}");
    replies.remove(0)
}

fn view(server: &str, who: &str) -> ServerView {
    let text = one(server, &format!("{who}-info")).into_text().unwrap();
    info::server_view(&text, Some(&one(server, &format!("{who}-role"))), NOW, 9).unwrap()
}

#[test]
fn a_primary_tells_of_its_data_and_its_replicas() {
    for (server, flavour) in SERVERS {
        let primary = view(server, "primary");
        assert_eq!((primary.role, primary.keys, primary.flavour), (Role::Primary, 2, flavour), "{server}");
        assert!(server.ends_with(&primary.version), "{server}: {}", primary.version);
        assert_eq!((primary.run_id.len(), primary.replid.len(), primary.sync_full), (40, 40, 1), "{server}");
        assert_eq!(primary.replicas.len(), 1, "{server}");
        assert_eq!((primary.replicas[0].state.as_str(), primary.replicas[0].lag_s < 2), ("online", true), "{server}");
        assert!(primary.backlog_active && primary.backlog_size > 0 && primary.rdb_last_save_ok && !primary.loading);
        assert_eq!(primary.failover_state, "no-failover");
        assert!(primary.output_buffer_cuts.is_some() || server == "redis-7.0.15", "{server}");
    }
}

#[test]
fn a_replica_tells_of_its_link() {
    for (server, _) in SERVERS {
        let replica = view(server, "replica");
        let link = replica.role.link().unwrap();
        assert!(link.up && link.state == LinkState::Connected && link.down_for_s.is_none(), "{server}");
        assert!(link.offset > 1 && replica.keys == 2 && replica.priority == 100, "{server}");

        let orphan = view(server, "orphan");
        let link = orphan.role.link().unwrap();
        assert!(!link.up && link.down_for_s.is_some_and(|s| s >= 0) && link.last_io_s == -1, "{server}");
        assert!(matches!(link.state, LinkState::Connect | LinkState::Connecting), "{server}: {:?}", link.state);
        assert_eq!(orphan.errors.get("NOAUTH"), view(server, "replica").errors.get("NOAUTH"));
    }
}

#[test]
fn settings_and_limits_are_read_and_the_password_is_not_among_them() {
    for (server, _) in SERVERS {
        // The captures are older than the last three parameters: a server that does not know one sends an empty list.
        let mut answers = captured(server, "replica-settings");
        answers.resize(settings::SETTINGS.len(), Reply::List(Vec::new()));
        let settings::Own { view, login, .. } = settings::settings(answers, NOW, &SALT).unwrap();
        assert!(!view.save_stops_writes && !view.ignores_disk_errors);
        assert_eq!((view.masteruser.as_str(), view.masterauth_set, view.repl_timeout_s), ("", true, 60), "{server}");
        assert!(view.dir.starts_with("/var/lib/group/") && view.logfile.ends_with("/log"));
        assert!(view.serve_stale_data && !view.tls_replication);
        assert_eq!(login.unwrap().secret.expose(), "capture-pass");
        assert!(!serde_json::to_string(&view).unwrap().contains("capture-pass"));

        let mut answers = captured(server, "primary-limits");
        let clients = answers.pop().unwrap();
        let limits = settings::limits(answers, Some(&clients), NOW).unwrap();
        assert_eq!((limits.repl_timeout_s, limits.ping_period_s), (60, 10), "{server}");
        assert_eq!(
            (limits.output_hard, limits.output_soft, limits.output_soft_s),
            (268_435_456, 67_108_864, 60),
            "{server}"
        );
        assert!(limits.diskless_sync && limits.backlog_size > 0 && limits.output_largest.is_some());
        assert!(limits.replica_age_s.is_some(), "{server}: {clients:?}");
    }
    let denied = Reply::error("NOPERM this user has no permissions to run the 'config|get' command".into());
    let refused = settings::settings(vec![denied; settings::SETTINGS.len()], NOW, &SALT).unwrap_err();
    assert!(matches!(refused, Missing::Denied(text) if text.contains("config|get")));
}

fn asked(known: &[(&str, &str)]) -> settings::Own {
    let answer = |name: &&str| match known.iter().find(|(key, _)| key == name) {
        Some((key, value)) => Reply::List(vec![Reply::Text((*key).into()), Reply::Text((*value).into())]),
        None => Reply::List(Vec::new()),
    };
    settings::settings(settings::SETTINGS.iter().map(answer).collect(), NOW, &SALT).unwrap()
}

#[test]
fn a_login_that_is_no_text_is_told_and_never_used() {
    let own = asked(&[("masterauth", "caf\u{fffd}-secret")]);
    assert!(own.view.login_not_text && own.view.masterauth_set && own.login.is_none());
    let own = asked(&[("masteruser", "\u{fffd}"), ("masterauth", "secret")]);
    assert!(own.view.login_not_text && own.login.is_none());
    let own = asked(&[("masterauth", "café")]);
    assert!(!own.view.login_not_text && own.login.is_some());
}

#[test]
fn a_replica_shows_the_clients_certificate_where_one_is_set() {
    let both = [("tls-cert-file", "s.crt"), ("tls-key-file", "s.key"), ("tls-ca-cert-dir", "/etc/ca")];
    let own = asked(&both);
    assert_eq!((own.tls.shown(), own.tls.ca_dir.as_str()), (("s.crt", "s.key"), "/etc/ca"));
    let client = [("tls-client-cert-file", "c.crt"), ("tls-client-key-file", "c.key")];
    assert_eq!(asked(&[both.as_slice(), &client].concat()).tls.shown(), ("c.crt", "c.key"));
}

#[test]
fn the_largest_output_buffer_counts() {
    let clients = "id=3 addr=10.0.0.2:1 omem=12 tot-mem=9 cmd=psync\nid=4 omem=20504 cmd=replconf\n";
    assert_eq!(settings::largest_output(clients), 20_504);
    assert_eq!(settings::largest_output(""), 0);
}

fn said(server: &str, suffix: &str, info_cache: &Reply) -> Result<crate::model::evidence::SentinelSays, Missing> {
    sentinel::says(
        &Answers {
            myid: &one(server, "sentinel-myid"),
            master: &one(server, &format!("sentinel-master{suffix}")),
            replicas: &one(server, &format!("sentinel-replicas{suffix}")),
            ckquorum: &one(server, "sentinel-ckquorum"),
            info: &one(server, "sentinel-info"),
            info_cache,
        },
        NOW,
        9,
    )
}

#[test]
fn a_sentinel_tells_of_its_group() {
    for (server, flavour) in SERVERS {
        let says = said(server, "", &one(server, "sentinel-info-cache")).unwrap();
        assert_eq!((says.id.len(), says.quorum, says.others), (40, 2, 2), "{server}");
        assert_eq!((says.down_after_ms, says.failover_timeout_ms), (1500, 8000), "{server}");
        assert_eq!(says.flags.iter().map(String::as_str).collect::<Vec<_>>(), ["master"], "{server}");
        assert!(says.s_down_ms.is_none() && says.tilt == Reading::Seen(false) && says.failover_state.is_none());
        assert!(says.ckquorum.seen().unwrap().ok);
        let [replica] = says.replicas.as_slice() else { panic!("{server}: {:?}", says.replicas) };
        assert!(replica.link_ok && replica.priority == 100 && replica.announced && replica.offset > 1, "{server}");
        assert_eq!(replica.primary.as_ref(), Some(&says.primary), "{server}");

        let nodes = says.nodes.seen().unwrap();
        assert_eq!(nodes.len(), 2, "{server}: {:?}", nodes.keys());
        assert!(nodes[&says.primary.to_string()].is_primary);
        let node = &nodes[&replica.endpoint.to_string()];
        assert!(node.link_up && node.flavour == flavour && node.age_ms < NEVER_MS && node.rdb_last_save_ok);
        assert_eq!(sentinel::group_names(&one(server, "sentinel-masters")), ["mymaster"]);
        assert_eq!(peer_role(&one(server, "sentinel-role")), Some(PeerRole::Sentinel));
    }
}

#[test]
fn a_sentinel_without_some_permissions_still_tells_the_rest() {
    let denied = Reply::error("NOPERM User default has no permissions to run the 'sentinel|info-cache' command".into());
    let says = said("redis-7.0.15", "", &denied).unwrap();
    assert!(matches!(says.nodes.missing(), Some(Missing::Denied(_))));
    assert_eq!((says.quorum, says.replicas.len()), (2, 1));
}

#[test]
fn a_sentinel_that_sees_the_primary_down_says_since_when() {
    for (server, _) in SERVERS {
        let says = said(server, "-down", &Reply::Nil).unwrap();
        assert!(says.flags.contains("s_down") && says.s_down_ms.is_some(), "{server}: {:?}", says.flags);
        let lost = one(server, "sentinel-noquorum");
        assert!(matches!(&lost, Reply::Error { code, .. } if code == "NOQUORUM"), "{server}");
    }
    let unknown = one("redis-8.2.3", "sentinel-nogroup");
    assert_eq!(unknown.refusal(), Some(Missing::Unsupported("ERR No such master with that name".into())));
}

#[test]
fn the_probe_of_a_replicas_rights_changes_nothing_and_is_answered_the_same_everywhere() {
    for (server, _) in SERVERS {
        let [replconf, psync, alive] = captured(server, "psync").try_into().unwrap();
        assert_eq!((replconf, alive), (Reply::Text("OK".into()), Reply::Text("PONG".into())), "{server}");
        assert_eq!(psync, Reply::error("ERR value is not an integer or out of range".into()), "{server}");
        assert!(view(server, "primary").replicas.len() == 1);
        let codes: Vec<_> = captured(server, "noauth").iter().filter_map(Reply::refusal).collect();
        assert!(codes.iter().all(|missing| matches!(missing, Missing::Denied(_))) && codes.len() == 4, "{codes:?}");
    }
}

#[test]
fn an_instance_never_read_by_a_sentinel_is_not_fresh() {
    let words = ["ip", "10.0.0.3", "port", "6379", "runid", "", "flags", "s_down,slave", "info-refresh", "0"];
    let words = words.iter().map(|word| Reply::Text((*word).into())).collect();
    let master = one("redis-7.0.15", "sentinel-master");
    let answers = Answers {
        myid: &Reply::Nil,
        master: &master,
        replicas: &Reply::List(vec![Reply::List(words)]),
        ckquorum: &Reply::Nil,
        info: &Reply::Nil,
        info_cache: &Reply::Nil,
    };
    let says = sentinel::says(&answers, NOW, 9).unwrap();
    assert_eq!((says.replicas[0].info_refresh_ms, says.replicas[0].last_ok_ping_ms), (NEVER_MS, NEVER_MS));
}

#[test]
fn text_that_tells_no_role_is_no_view() {
    for text in ["", "hello", "role:", "role:queen\r\n", "role:slave\r\nmaster_host:x\r\nmaster_port:70000\r\n"] {
        assert!(info::server_view(text, None, NOW, 0).is_none(), "{text:?}");
    }
    for reply in [Reply::Nil, Reply::List(vec![]), Reply::List(vec![Reply::Text("slave".into())])] {
        assert_eq!(peer_role(&reply), None);
    }
}

#[test]
fn an_audit_reads_nodes_and_sentinels_of_every_server() {
    for (server, flavour) in SERVERS {
        let text = one(server, "replica-info");
        let account = info::node_account(text.text().unwrap(), None, NOW, 7).unwrap();
        assert_eq!(account.server.flavour, flavour);
        assert!(account.data_bytes > 0 && account.data_bytes < account.server.used_memory, "{server}");
        assert!(account.host_memory > account.server.used_memory, "{server}");
        assert!(info::repl_offset(text.text().unwrap()).is_some_and(|offset| offset > 0), "{server}");
    }
}

fn fields(pairs: &[(&str, &str)]) -> Reply {
    Reply::List(pairs.iter().flat_map(|(key, value)| [*key, *value]).map(|word| Reply::Text(word.into())).collect())
}

#[test]
fn sentinels_tell_of_each_other_and_of_replicas_without_an_address() {
    let well = fields(&[("ip", "10.0.0.2"), ("port", "26379"), ("runid", "b"), ("flags", "sentinel")]);
    let gone =
        fields(&[("ip", "10.0.0.3"), ("port", "26379"), ("runid", "c"), ("flags", "s_down,sentinel,disconnected")]);
    let peers = sentinel::peers(&Reply::List(vec![well, gone]));
    let told: Vec<_> =
        peers.seen().unwrap().iter().map(|peer| (peer.id.as_str(), peer.endpoint.to_string(), peer.down)).collect();
    assert_eq!(told, [("b", "10.0.0.2:26379".into(), false), ("c", "10.0.0.3:26379".into(), true)]);

    let whole = fields(&[("ip", "10.0.0.4"), ("port", "6379")]);
    let ghost = fields(&[("ip", "10.0.0.4"), ("port", "0")]);
    assert_eq!(sentinel::ghosts(&Reply::List(vec![whole, ghost])).seen().unwrap(), &["10.0.0.4:0"]);
    let refused = Reply::error("NOPERM no".into());
    assert!(sentinel::ghosts(&refused).seen().is_none() && sentinel::peers(&refused).seen().is_none());
}

#[test]
fn a_node_tells_its_settings_or_why_not() {
    let pair = |name: &str, value: &str| fields(&[(name, value)]);
    let answers = || -> Vec<Reply> {
        let value = |name: &str| match name {
            "masteruser" => "repl",
            "masterauth" => "canary",
            "client-output-buffer-limit" => "normal 0 0 0 slave 10 5 60 pubsub 1 1 1",
            "save" => "",
            "appendonly" => "yes",
            "repl-diskless-load" => "swapdb",
            _ => "17",
        };
        settings::NODE.iter().map(|name| pair(name, value(name))).collect()
    };
    let (view, held) = settings::node(answers(), &SALT).unwrap();
    let login = held.login.unwrap();
    assert_eq!((view.output_hard, view.output_soft, view.output_soft_s), (10, 5, 60));
    assert!(view.masterauth_set && view.append_only && view.persists() && view.save.is_empty());
    assert_eq!((view.backlog_size, view.min_replicas_to_write, view.priority), (17, 17, 17));
    assert_eq!((login.user.as_str(), login.secret.expose()), ("repl", "canary"));
    assert!(!format!("{view:?}").contains("canary"));
    let other = settings::Credentials { user: "repl2".into(), ..login };
    assert_ne!(other.print(&SALT), view.login, "another user is another login");
    let mut refused = answers();
    refused[3] = Reply::error("NOPERM no".into());
    assert!(settings::node(refused, &SALT).is_err());
    let mut not_text = answers();
    not_text[1] = pair("masterauth", "p\u{fffd}w");
    let (view, held) = settings::node(not_text, &SALT).unwrap();
    assert!(view.login_not_text && held.login.is_none());
}

/// Redis 7.0.15: stopAppendOnly leaves what the last write came to, for good.
#[test]
fn an_append_only_file_that_is_not_kept_fails_no_more() {
    let told = |enabled: &str| {
        let text = format!("role:master\r\naof_enabled:{enabled}\r\naof_last_write_status:err\r\n");
        let view = info::server_view(&text, None, Timestamp::default(), 0).unwrap();
        (view.aof_last_write_ok, info::cached_node(&text, 0).unwrap().aof_last_write_ok)
    };
    assert_eq!((told("1"), told("0")), ((false, false), (true, true)));
}

/// A replica that ends a full sync leaps to its primary's offset: nobody wrote that.
#[test]
fn a_stream_grows_only_while_its_link_is_up() {
    let at = |offset: u64, link: &str, replid: &str| {
        let text = format!(
            "role:slave\r\nmaster_host:10.0.0.1\r\nmaster_port:6379\r\nmaster_link_status:{link}\r\n\
             slave_repl_offset:{offset}\r\nmaster_replid:{replid}\r\nmaster_repl_offset:{offset}\r\n"
        );
        info::progress(&text).unwrap()
    };
    assert_eq!(at(150, "up", "a").since(&at(100, "up", "a")), Some(50));
    assert_eq!(at(150, "up", "a").since(&at(100, "down", "a")), None);
    assert_eq!(at(150, "up", "b").since(&at(100, "up", "a")), None, "another history");
    assert_eq!(at(1_400, "up", "a").since(&at(0, "up", "a")), None, "nothing was there before");
    let primary = |offset: u64| info::progress(&format!("role:master\r\nmaster_repl_offset:{offset}\r\n")).unwrap();
    assert_eq!(primary(10).since(&primary(0)), Some(10));
}
