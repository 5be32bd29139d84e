//! No secret comes out: canaries stand in every place of a password, everything that can go wrong does, and then every
//! place that a person, a log or a file could read is searched for them.

mod live;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;
use std::time::{Duration, Instant};

use lab::{Group, Impostor, Kind, Manner, Port, fault};
use live::desk::Desk;
use live::{PATIENCE, RELINKD, Setup, config};

/// What is searched for: the first is part of every password and URL here, the second is base64 of the same.
const MARKS: [&str; 2] = ["CANARY", "Q0FOQVJZ"];
const OLD: &str = "old-CANARY-of-the-replica";
const NEW: &str = "new-CANARY-of-the-primary";

/// Every place that was searched, and what was found there.
#[derive(Default)]
struct Search {
    places: usize,
    leaks: Vec<String>,
}

impl Search {
    fn look(&mut self, place: &str, bytes: &[u8]) {
        self.places += 1;
        let text = String::from_utf8_lossy(bytes);
        for mark in MARKS {
            if let Some(at) = text.find(mark) {
                let around: String =
                    text.chars().skip(text[..at].chars().count().saturating_sub(200)).take(300).collect();
                self.leaks.push(format!("{place}: …{around}…"));
            }
        }
    }
}

/// relinkd's life with a canary in every secret.
struct Life {
    desk: Desk,
    echoes: Vec<Impostor>,
    http: Port,
}

impl Life {
    fn begin(kind: Kind, log_format: &str) -> Life {
        let group = Group::builder(kind).replicas(1).sentinels(1).password(OLD).start().unwrap();
        let desk = Desk::new(group);
        let user = |name: &str, password: &str| {
            ["ACL", "SETUSER", name, "reset", "on", password, "~*", "&*", "+@all"].map(str::to_owned)
        };
        for node in desk.group.nodes() {
            let words = user("observer", ">observer-CANARY");
            node.query::<String>(&words.each_ref().map(String::as_str)).unwrap();
        }
        let words = user("watcher", ">sentinel-CANARY");
        desk.group.sentinel(0).query::<String>(&words.each_ref().map(String::as_str)).unwrap();

        let echoes: Vec<Impostor> = (0..3).map(|_| Impostor::new(Manner::Echo).expect("an impostor")).collect();
        let http = Port::reserve().unwrap();
        let text = Life::configuration(&desk, &echoes, log_format, http.number);
        let mut life = Life { desk, echoes, http };
        life.desk.agent.start(&text).unwrap();
        life
    }

    fn configuration(desk: &Desk, echoes: &[Impostor], log_format: &str, http: u16) -> String {
        let file = |name: &str, text: &str| desk.agent.write_file(name, text).unwrap().display().to_string();
        let setup = Setup {
            store: Some("stale-CANARY-of-the-store".to_owned()),
            group: format!(
                "sentinel_user = \"watcher\"\nsentinel_password = {{ file = \"{}\" }}\nobserver = {{ user = \"observer\", password = {{ file = \"{}\" }} }}",
                file("sentinel", "sentinel-CANARY"),
                file("observer", "observer-CANARY")
            ),
            listen: format!("127.0.0.1:{http}"),
            ..Setup::default()
        };
        let url = format!("{}/url-CANARY", desk.receiver.url());
        let text = config(&desk.agent, &desk.group, desk.group.replica(0), &url, &setup);
        let text = text.replace("log_level", &format!("log_format = \"{log_format}\"\nlog_level"));
        let key = file("key", "whsec_Q0FOQVJZQ0FOQVJZQ0FOQVJZQ0FOQVJZ");
        let dead = file("dead", "http://user:CANARY@127.0.0.1:1/url-CANARY?token=CANARY");
        let stranger = file("stranger", "stranger-CANARY");
        let url = file("slack", &url);
        format!(
            "{text}secret = {{ file = \"{key}\" }}\n\n[notify.slack]\nkind = \"slack\"\nurl = {{ file = \"{url}\" }}\n\n\
             [notify.dead]\nkind = \"webhook\"\nurl = {{ file = \"{dead}\" }}\n\n\
             [group.strange]\nsentinels = [\"{}\"]\nsentinel_password = {{ file = \"{stranger}\" }}\nmasterauth = {{ file = \"{stranger}\" }}\n\n\
             [replica.stranger]\naddress = \"{}\"\ngroup = \"strange\"\nuser = \"someone\"\npassword = {{ file = \"{stranger}\" }}\n",
            echoes[0].address(),
            echoes[1].address(),
        )
    }

    fn told(&self, what: &str, event: &str) {
        let found = self.desk.receiver.wait_until(PATIENCE, |requests| {
            requests.iter().filter_map(|request| request.json()).any(|m| m["event"] == event && m["replica"] == "cache")
        });
        assert!(found.is_some(), "{what}\n{}", self.desk.agent.log());
    }

    /// A password that nobody accepts, then one that heals, then a primary that repeats what it is told.
    fn live_through_it(&self) {
        fault::rotate_password(self.desk.group.primary(), NEW).unwrap().keep();
        self.told("the stale store is told", "opened");
        self.desk.agent.write_file("masterauth", NEW).unwrap();
        self.told("the new password heals", "resolved");
        let met = self.echoes[2].met();
        let replica = self.desk.group.replica(0);
        fault::wrong_primary(replica, "127.0.0.1", self.echoes[2].port()).unwrap().keep();
        let end = Instant::now() + PATIENCE;
        // The replica itself comes once a second; relinkd's own probes come beside it.
        while self.echoes[2].met() < met + 8 {
            assert!(Instant::now() < end, "nobody asked the echo\n{}", self.desk.agent.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn get(&self, path: &str) -> Vec<u8> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.http.number)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 "), "{path}: {}", String::from_utf8_lossy(&answer));
        answer
    }

    fn search(&mut self) -> Search {
        let mut search = Search::default();
        let dir = self.desk.agent.dir().to_owned();
        let evidence = dir.join("evidence.json").display().to_string();
        let verbs: [&[&str]; 16] = [
            &["status"],
            &["status", "--json"],
            &["diagnose"],
            &["diagnose", "--json"],
            &["diagnose", "cache", "--save", &evidence],
            &["diagnose", "--from", &evidence, "--json"],
            &["diagnose", "stranger", "--json"],
            &["check"],
            &["check", "--json", "--notify"],
            &["heal", "cache", "--check", "--diff", "--json"],
            &["heal", "stranger", "--check"],
            &["incidents"],
            &["incidents", "--json"],
            &["show", "cache"],
            &["show", "cache", "--json"],
            &["run"],
        ];
        for words in verbs {
            let said = self.desk.run(words);
            search.look(&format!("stdout of {words:?}"), said.out.as_bytes());
            search.look(&format!("stderr of {words:?}"), said.err.as_bytes());
        }
        search.look("saved evidence", &fs::read(&evidence).unwrap());
        let incidents = self.desk.json(&["incidents"]);
        let one = format!("/api/v1/incidents/{}", incidents[0]["id"].as_str().unwrap());
        for path in ["/", "/metrics", "/healthz", "/readyz", "/api/v1/status", "/api/v1/incidents", &one, "/none"] {
            search.look(path, &self.get(path));
        }
        let pid = self.desk.agent.pid().expect("the daemon lives on");
        for name in ["cmdline", "environ", "comm"] {
            search.look(name, &fs::read(format!("/proc/{pid}/{name}")).unwrap());
        }
        for entry in fs::read_dir(dir.join("state")).unwrap() {
            let path = entry.unwrap().path();
            search.look(&path.display().to_string(), &fs::read(&path).unwrap());
        }
        for request in self.desk.receiver.requests() {
            let headers = format!("{:?}", request.headers);
            search.look("a message", format!("{headers}{}", request.body_text()).as_bytes());
        }
        self.desk.agent.stop().unwrap();
        search.look("the daemon's log", self.desk.agent.log().as_bytes());
        search
    }
}

fn nothing_leaks(kind: Kind, log_format: &str) {
    let Some(kind) = lab::require(kind) else { return };
    let mut life = Life::begin(kind, log_format);
    life.live_through_it();
    let search = life.search();
    assert!(search.places > 48, "only {} places were searched", search.places);
    assert!(search.leaks.is_empty(), "{} leaks:\n{}", search.leaks.len(), search.leaks.join("\n"));
    // The search can fail: what is known to hold a password is found.
    let mut control = Search::default();
    control.look("the server's config", &fs::read(life.desk.group.replica(0).conf_path()).unwrap());
    assert!(!control.leaks.is_empty());
    assert!(life.echoes.iter().all(|echo| echo.met() > 0), "an echo was never asked");
    let log = life.desk.agent.log();
    assert!(log.contains("no connection") || log.contains("not delivered"), "the dead channel failed aloud: {log}");
}

#[test]
fn no_sink_holds_a_secret_with_a_text_log_redis_70() {
    nothing_leaks(Kind::Redis70, "text");
}

#[test]
fn no_sink_holds_a_secret_with_a_json_log_valkey_80() {
    nothing_leaks(Kind::Valkey80, "json");
}

/// The kernel gives the files of a process that may not be dumped to root: proc(5).
#[test]
fn the_daemon_cannot_be_dumped() {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return;
    }
    let dir = tempfile::Builder::new().prefix("relinkd-canary").tempdir_in("/tmp").unwrap();
    let (binary, config) = (dir.path().join("relinkd"), dir.path().join("config.toml"));
    fs::copy(RELINKD, &binary).unwrap();
    let place = dir.path().display();
    fs::write(
        &config,
        format!("[agent]\nstate_dir = \"{place}\"\nrun_dir = \"{place}\"\nlisten = \"off\"\n[replica.cache]\naddress = \"unix:{place}/none\"\n"),
    )
    .unwrap();
    for path in [dir.path(), &binary, &config] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::chown(path, Some(65_534), Some(65_534)).unwrap();
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--pdeathsig=KILL", "--"]);
    command.arg(&binary).arg("--config").arg(&config).arg("run");
    command.current_dir("/").stdin(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut child = command.spawn().unwrap();
    let (end, proc) = (Instant::now() + PATIENCE, format!("/proc/{}", child.id()));
    while !dir.path().join("control.sock").exists() {
        assert!(Instant::now() < end && child.try_wait().unwrap().is_none(), "relinkd did not start");
        std::thread::sleep(Duration::from_millis(5));
    }
    let status = fs::read_to_string(format!("{proc}/status")).unwrap();
    let owner = fs::metadata(format!("{proc}/environ")).unwrap().uid();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(status.contains("Uid:\t65534"), "{status}");
    assert_eq!(owner, 0, "another process of the same user could read its memory");
}
