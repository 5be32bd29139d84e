//! The watchers on real servers (Debian's redis-server and redis-sentinel), on loopback ports of their own choosing.
//!
//! Each test waits for what it expects and fails when it does not come; none asserts how long that took.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use relinkd::model::event::{Pulse, Wake, Why};
use relinkd::model::evidence::{LogFact, LogKind};
use relinkd::model::{Endpoint, Timestamp};
use relinkd::secrets::Secret;
use relinkd::watch::log::{LogBook, LogSource, Resolved, ServerLog, follow, resolve};
use relinkd::watch::replica::{PulseBoard, poll};
use relinkd::watch::sentinel::{Pace, SentinelBoard, listen};
use relinkd::wire::{Dial, Reader};
use tokio::sync::mpsc::{Receiver, Sender, channel};

const PATIENCE: Duration = Duration::from_secs(30);

/// A server that dies with the test.
struct Server {
    child: Child,
    dir: tempfile::TempDir,
    port: u16,
    args: Vec<String>,
}

impl Server {
    fn start(lines: &[&str]) -> Server {
        Server::run("redis-server", lines)
    }

    /// A Sentinel that watches the given groups, all with the same primary.
    fn sentinel(groups: &[&str], primary: u16, lines: &[&str]) -> Server {
        let watched: Vec<String> =
            groups.iter().map(|group| format!("sentinel monitor {group} 127.0.0.1 {primary} 1")).collect();
        let lines: Vec<&str> = watched.iter().map(String::as_str).chain(lines.iter().copied()).collect();
        Server::run("redis-sentinel", &lines)
    }

    fn run(program: &str, lines: &[&str]) -> Server {
        let dir = tempfile::tempdir().unwrap();
        let conf = dir.path().join("server.conf");
        let data = if program == "redis-server" { "save \"\"\nrepl-diskless-sync-delay 0\n" } else { "" };
        let args = vec![program.to_owned(), conf.display().to_string()];
        // A port that was free a moment ago may be taken by now: then the server ends, and another port is tried.
        for _ in 0..10 {
            let port = nowhere();
            let own = format!("port {port}\nbind 127.0.0.1\ndir {}\nlogfile log\n", dir.path().display());
            std::fs::write(&conf, own + data + &lines.join("\n") + "\n").unwrap();
            let mut child = spawn(&args);
            if answers(&mut child, port) {
                return Server { child, dir, port, args };
            }
        }
        let log = std::fs::read_to_string(dir.path().join("log")).unwrap_or_default();
        panic!("{program} does not start: {log}");
    }

    fn restart(&mut self) {
        self.child = spawn(&self.args);
        assert!(answers(&mut self.child, self.port), "the server did not come back");
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn signal(&self, name: &str) {
        let done = Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(done.success());
    }

    /// One command over the inline protocol; the first line of the answer, and the body of a bulk string.
    fn say(&self, command: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(format!("{command}\r\n").as_bytes()).unwrap();
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if let Some(size) = line.trim().strip_prefix('$').and_then(|size| size.parse::<usize>().ok()) {
            let mut body = vec![0; size];
            reader.read_exact(&mut body).unwrap();
            return String::from_utf8(body).unwrap();
        }
        line.trim().to_owned()
    }

    fn dial(&self) -> Dial {
        Dial::plain(self.endpoint())
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint::new("127.0.0.1", self.port)
    }

    fn link_up(&self) -> bool {
        self.say("INFO replication").contains("master_link_status:up")
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(args: &[String]) -> Child {
    let child = Command::new(&args[0]).args(&args[1..]).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    child.unwrap_or_else(|error| panic!("{} has to be installed: {error}", args[0]))
}

/// Waits for a server to listen; false when it ended instead.
fn answers(child: &mut Child, port: u16) -> bool {
    let began = std::time::Instant::now();
    while began.elapsed() < PATIENCE {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let began = std::time::Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "never came: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

async fn until_async(what: &str, holds: impl Fn() -> bool) {
    let seen = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, seen).await.is_ok(), "never came: {what}");
}

fn clock() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Timestamp(i64::try_from(since.as_micros()).unwrap())
}

async fn next(woken: &mut Receiver<Wake>) -> Why {
    tokio::time::timeout(PATIENCE, woken.recv()).await.expect("nothing woke us").expect("the watcher ended").why
}

fn pair(lines: &[&str]) -> (Server, Server) {
    let primary = Server::start(&[]);
    let follows = format!("replicaof 127.0.0.1 {}", primary.port);
    let lines: Vec<&str> = [follows.as_str()].into_iter().chain(lines.iter().copied()).collect();
    let replica = Server::start(&lines);
    until("the link is up", || replica.link_up());
    (primary, replica)
}

fn watch_replica(server: &Server, every_ms: u64) -> (Arc<Mutex<PulseBoard>>, Receiver<Wake>) {
    let board: Arc<Mutex<PulseBoard>> = Arc::default();
    let (wake, woken) = channel(64);
    tokio::spawn(poll(server.dial(), Duration::from_millis(every_ms), board.clone(), wake, clock));
    (board, woken)
}

/// An address where nothing listens, so that attempts fail at once.
fn nowhere() -> u16 {
    lab::Port::reserve().expect("a port").keep()
}

#[tokio::test]
async fn a_link_that_breaks_and_heals_wakes_each_time() {
    let (mut primary, replica) = pair(&[]);
    let (board, mut woken) = watch_replica(&replica, 10);
    let endpoint = primary.endpoint();
    let is_up = |why: Why| match why {
        Why::Replica(Pulse::Replica { of, up, quiet_s }) => assert!(of == endpoint && up, "{of} {up} {quiet_s}"),
        other => panic!("{other:?}"),
    };
    is_up(next(&mut woken).await);
    let last_up = board.lock().unwrap().last_up.expect("seen up");
    let told_quiet = || matches!(board.lock().unwrap().last, Some((_, Pulse::Replica { quiet_s: 0.., .. })));
    until_async("INFO tells since when the primary is silent", told_quiet).await;
    primary.kill();
    let down = next(&mut woken).await;
    assert!(
        matches!(&down, Why::Replica(Pulse::Replica { of, up: false, quiet_s: -1 }) if *of == endpoint),
        "{down:?}"
    );
    assert!(board.lock().unwrap().last_up.is_some_and(|at| at >= last_up));
    primary.restart();
    is_up(next(&mut woken).await);
    // Another primary is news though the link is down both before and after.
    let away = nowhere();
    replica.say(&format!("REPLICAOF 127.0.0.1 {away}"));
    let moved = next(&mut woken).await;
    assert!(matches!(moved, Why::Replica(Pulse::Replica { of, up: false, .. }) if of.port == away));
    replica.say("REPLICAOF NO ONE");
    assert_eq!(next(&mut woken).await, Why::Replica(Pulse::Primary));
}

#[tokio::test]
async fn a_hot_reconnect_loop_is_one_wake() {
    let primary = Server::start(&["requirepass one"]);
    let replica = Server::start(&[&format!("replicaof 127.0.0.1 {}", primary.port)]);
    let (board, mut woken) = watch_replica(&replica, 1);
    assert!(matches!(next(&mut woken).await, Why::Replica(Pulse::Replica { up: false, .. })));
    // The server's own count of refused attempts says that the loop runs; the poll sees it in many states.
    let refused = || {
        let mut stream = TcpStream::connect(("127.0.0.1", primary.port)).unwrap();
        stream.write_all(b"AUTH one\r\nINFO errorstats\r\n").unwrap();
        let mut text = [0; 4096];
        std::thread::sleep(Duration::from_millis(20));
        let got = stream.read(&mut text).unwrap();
        let text = String::from_utf8_lossy(&text[..got]).into_owned();
        let count = text.split("errorstat_NOAUTH:count=").nth(1).and_then(|rest| rest.split_whitespace().next());
        count.and_then(|count| count.parse::<u64>().ok()).unwrap_or_default()
    };
    let before = refused();
    let at = board.lock().unwrap().last.clone().map(|(at, _)| at);
    until_async("a thousand more attempts", || refused() > before + 1_000).await;
    assert!(board.lock().unwrap().last.clone().map(|(at, _)| at) > at, "the poll stands still");
    assert!(woken.try_recv().is_err(), "a hot loop woke us again");
}

#[tokio::test]
async fn a_client_kill_is_not_an_absence() {
    let (_primary, replica) = pair(&[]);
    let (board, mut woken) = watch_replica(&replica, 10);
    assert!(matches!(next(&mut woken).await, Why::Replica(Pulse::Replica { up: true, .. })));
    let ours = || {
        let list = replica.say("CLIENT LIST");
        let line = list.lines().find(|line| line.contains(" name=relinkd ")).map(str::to_owned);
        line.and_then(|line| line.split(' ').next().map(str::to_owned))
    };
    for _ in 0..3 {
        let before = ours().expect("our connection");
        // What Sentinel sends when it reconfigures a server (Redis 7.0.15, sentinelSendSlaveOf).
        replica.say("CLIENT KILL TYPE normal");
        until_async("we are back", || ours().is_some_and(|now| now != before)).await;
    }
    let at = board.lock().unwrap().last.clone().unwrap().0;
    until_async("polls go on", || board.lock().unwrap().last.clone().unwrap().0 > at).await;
    assert!(woken.try_recv().is_err(), "a cut connection woke us");
    assert_eq!(board.lock().unwrap().trouble, None);
}

#[tokio::test]
async fn a_restart_is_an_absence_and_a_return() {
    let (_primary, mut replica) = pair(&[]);
    let (board, mut woken) = watch_replica(&replica, 10);
    next(&mut woken).await;
    replica.kill();
    assert_eq!(next(&mut woken).await, Why::Replica(Pulse::Absent));
    assert!(board.lock().unwrap().trouble.as_deref().is_some_and(|why| why.starts_with("connection refused")));
    replica.restart();
    while !matches!(next(&mut woken).await, Why::Replica(Pulse::Replica { up: true, .. })) {}
}

#[tokio::test]
async fn a_frozen_instance_is_absent_until_it_answers() {
    let (primary, replica) = pair(&[]);
    let (board, mut woken) = watch_replica(&replica, 10);
    next(&mut woken).await;
    replica.signal("-STOP");
    assert_eq!(next(&mut woken).await, Why::Replica(Pulse::Absent));
    assert_eq!(board.lock().unwrap().trouble.as_deref(), Some("no answer in time"));
    replica.signal("-CONT");
    let back = next(&mut woken).await;
    assert!(
        matches!(&back, Why::Replica(Pulse::Replica { of, up: true, .. }) if *of == primary.endpoint()),
        "{back:?}"
    );
}

/// One line in ACL LOG, and not one a second for good: the watcher is started anew with a password that has changed.
#[tokio::test]
async fn a_login_that_is_refused_is_told_and_not_tried_again_at_once() {
    let server = Server::start(&["requirepass right"]);
    let board: Arc<Mutex<PulseBoard>> = Arc::default();
    let (wake, mut woken) = channel(8);
    let dial = Dial { password: Some(Secret::new("wrong")), ..server.dial() };
    let poller = tokio::spawn(poll(dial, Duration::from_millis(10), board.clone(), wake.clone(), clock));
    assert_eq!(next(&mut woken).await, Why::Replica(Pulse::Refusing { code: "WRONGPASS".to_owned() }));
    // It would have tried four times by then.
    tokio::time::sleep(Duration::from_millis(1_600)).await;
    poller.abort();
    let right = Dial { password: Some(Secret::new("right")), ..server.dial() };
    let mut reader = Reader::connect(&right, Duration::from_secs(5)).await.unwrap();
    let stats = reader.ask(&["INFO", "errorstats"], Duration::from_secs(5)).await.unwrap();
    assert!(stats.text().unwrap().contains("errorstat_WRONGPASS:count=1\r"), "{stats:?}");
    tokio::spawn(poll(right, Duration::from_millis(10), board.clone(), wake, clock));
    assert_eq!(next(&mut woken).await, Why::Replica(Pulse::Primary));
    assert!(!format!("{board:?}").contains("wrong"));
}

fn watch_sentinel(dial: Dial, group: &str) -> (Arc<Mutex<SentinelBoard>>, Receiver<Wake>) {
    let pace = Pace {
        ping_every: Duration::from_millis(50),
        answer: Duration::from_secs(1),
        away: (Duration::from_millis(20), Duration::from_millis(200)),
        settled: Duration::from_secs(1),
        refused: Duration::from_secs(30),
    };
    let board: Arc<Mutex<SentinelBoard>> = Arc::default();
    let (wake, woken) = channel(64);
    tokio::spawn(listen(dial, group.to_owned(), pace, board.clone(), wake, clock));
    (board, woken)
}

fn is_link(why: &Why, want: bool) -> bool {
    matches!(why, Why::SentinelLink { up, .. } if *up == want)
}

#[tokio::test]
async fn a_frozen_sentinel_is_noticed_and_heard_again() {
    let primary = Server::start(&[]);
    let sentinel = Server::sentinel(&["mine"], primary.port, &[]);
    let (board, mut woken) = watch_sentinel(sentinel.dial(), "mine");
    assert!(is_link(&next(&mut woken).await, true));
    assert_eq!(board.lock().unwrap().connected(), 1);
    sentinel.signal("-STOP");
    while !is_link(&next(&mut woken).await, false) {}
    assert_eq!(board.lock().unwrap().connected(), 0);
    let trouble = board.lock().unwrap().links[&sentinel.endpoint()].trouble.clone();
    assert_eq!(trouble.as_deref(), Some("no answer in time"));
    sentinel.signal("-CONT");
    while !is_link(&next(&mut woken).await, true) {}
}

#[tokio::test]
async fn events_of_the_group_wake_and_those_of_others_do_not() {
    let mut primary = Server::start(&[]);
    let quick = ["sentinel down-after-milliseconds mine 300", "sentinel down-after-milliseconds other 300"];
    let sentinel = Server::sentinel(&["mine", "other"], primary.port, &quick);
    let (board, mut woken) = watch_sentinel(sentinel.dial(), "mine");
    assert!(is_link(&next(&mut woken).await, true));
    primary.kill();
    let mut names = Vec::new();
    while !names.iter().any(|name| name == "-failover-abort-no-good-slave") {
        match next(&mut woken).await {
            Why::Sentinel(event) => {
                assert_ne!(event.group.as_deref(), Some("other"), "{event:?}");
                names.push(event.name);
            }
            other => panic!("{other:?}"),
        }
    }
    for name in ["+sdown", "+odown", "+new-epoch", "+try-failover", "+elected-leader"] {
        assert!(names.iter().any(|seen| seen == name), "{name} is not in {names:?}");
    }
    let link = board.lock().unwrap().links[&sentinel.endpoint()].clone();
    assert_eq!(link.events["+sdown"], 1);
}

#[tokio::test]
async fn a_sentinel_that_grants_few_channels_is_heard_through_them() {
    let primary = Server::start(&[]);
    let acl =
        "user watcher on >pw resetchannels &+set &+switch-master -@all +ping +subscribe +psubscribe +client|setname";
    let sentinel = Server::sentinel(&["mine"], primary.port, &[acl]);
    let dial = Dial { user: "watcher".to_owned(), password: Some(Secret::new("pw")), ..sentinel.dial() };
    let (_board, mut woken) = watch_sentinel(dial, "mine");
    assert!(is_link(&next(&mut woken).await, true));
    assert_eq!(sentinel.say("SENTINEL SET mine down-after-milliseconds 4000"), "+OK");
    let Why::Sentinel(event) = next(&mut woken).await else { panic!("no event") };
    assert_eq!((event.name.as_str(), event.group.as_deref()), ("+set", Some("mine")));
}

#[tokio::test]
async fn a_sentinel_that_grants_nothing_is_told_with_the_rule_to_add() {
    let primary = Server::start(&[]);
    let acl = "user watcher on >pw resetchannels -@all +ping +subscribe +psubscribe";
    let sentinel = Server::sentinel(&["mine"], primary.port, &[acl]);
    let dial = Dial { user: "watcher".to_owned(), password: Some(Secret::new("pw")), ..sentinel.dial() };
    let (board, mut woken) = watch_sentinel(dial, "mine");
    assert!(is_link(&next(&mut woken).await, false));
    let trouble = board.lock().unwrap().links[&sentinel.endpoint()].trouble.clone().unwrap();
    assert!(trouble.contains("NOPERM") && trouble.contains("allchannels"), "{trouble}");
}

fn watch_log(source: Resolved) -> (Arc<Mutex<LogBook>>, Sender<Wake>, Receiver<Wake>) {
    let book: Arc<Mutex<LogBook>> = Arc::default();
    let (wake, woken) = channel(64);
    tokio::spawn(follow(source, book.clone(), wake.clone(), clock));
    (book, wake, woken)
}

fn fact(book: &Mutex<LogBook>, kind: LogKind) -> Option<LogFact> {
    book.lock().unwrap().view(clock()).lines.into_iter().find(|fact| fact.kind == kind)
}

fn count(book: &Mutex<LogBook>, kind: LogKind) -> u32 {
    fact(book, kind).map_or(0, |fact| fact.count)
}

async fn is_read(book: &Mutex<LogBook>) {
    until_async("the log is read", || book.lock().unwrap().reading(clock()).seen().is_some()).await;
}

#[tokio::test]
async fn a_servers_log_is_found_and_its_refusal_read() {
    let primary = Server::start(&["requirepass one"]);
    let replica = Server::start(&["masterauth wrong", &format!("replicaof 127.0.0.1 {}", primary.port)]);
    let dir = replica.dir.path().display().to_string();
    let said = ServerLog { logfile: "log".to_owned(), dir, process_id: Some(replica.child.id()) };
    let source = resolve(&LogSource::Auto, Some(&said));
    assert_eq!(source, Resolved::File(replica.log()));
    let (book, _wake, mut woken) = watch_log(source);
    assert_eq!(next(&mut woken).await, Why::Log);
    until_async("the refusal", || fact(&book, LogKind::AuthFailed).is_some()).await;
    let sample = fact(&book, LogKind::AuthFailed).unwrap().sample;
    assert!(sample.starts_with("Unable to AUTH to ") && sample.contains(": -WRONGPASS "), "{sample}");
    // Rotated under the server: it opens its log anew for each line.
    std::fs::rename(replica.log(), replica.dir.path().join("log.1")).unwrap();
    let before = count(&book, LogKind::AuthFailed);
    until_async("lines after the rename", || replica.log().exists() && count(&book, LogKind::AuthFailed) > before + 1)
        .await;
}

#[tokio::test]
async fn a_password_in_the_log_stays_there() {
    let primary = Server::start(&["rename-command AUTH \"\""]);
    let replica = Server::start(&["masterauth hunter2", &format!("replicaof 127.0.0.1 {}", primary.port)]);
    until("the server writes its password into its log", || {
        std::fs::read_to_string(replica.log()).is_ok_and(|text| text.contains("hunter2"))
    });
    let (book, _wake, _woken) = watch_log(Resolved::File(replica.log()));
    until_async("the refusal", || fact(&book, LogKind::AuthFailed).is_some()).await;
    let sample = fact(&book, LogKind::AuthFailed).unwrap().sample;
    assert!(sample.contains("unknown command 'AUTH'"), "{sample}");
    assert!(!format!("{book:?}").contains("hunter2"));
}

#[tokio::test]
async fn a_hot_loops_log_is_read_within_the_budget() {
    let primary = Server::start(&["requirepass one"]);
    let replica = Server::start(&[&format!("replicaof 127.0.0.1 {}", primary.port)]);
    let (book, _wake, _woken) = watch_log(Resolved::File(replica.log()));
    until_async("the flood is told", || {
        let view = book.lock().unwrap().view(clock());
        view.skipped && view.bytes_per_s > 256 * 1024 && view.lines.iter().any(|f| f.kind == LogKind::PsyncRefused)
    })
    .await;
    replica.say("CONFIG SET masterauth one");
    until_async("the end of the flood", || fact(&book, LogKind::SyncFinished).is_some()).await;
}

/// Writes as a server does: opened anew for each line.
fn write(path: &Path, text: &str) {
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

const LOST: &str = "1:S 23 Nov 2026 06:12:00.041 # Connection with master lost.\n";

#[tokio::test]
async fn rotation_loses_no_telling_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    write(&path, "");
    let (book, _wake, _woken) = watch_log(Resolved::File(path.clone()));
    is_read(&book).await;
    for round in 1..=3 {
        // By rename, with lines on either side of it that no poll has seen.
        write(&path, LOST);
        write(&path, LOST);
        std::fs::rename(&path, dir.path().join("log.1")).unwrap();
        write(&path, LOST);
        until_async("lines around a rename", || count(&book, LogKind::LinkLost) == round * 5 - 2).await;
        // By copy and truncate, what was read before; then a file that is longer at once than it was.
        std::fs::File::create(&path).unwrap();
        write(&path, &format!("{}{LOST}", "padding\n".repeat(100)));
        until_async("the line after a truncation", || count(&book, LogKind::LinkLost) == round * 5 - 1).await;
        std::fs::remove_file(&path).unwrap();
        write(&path, LOST);
        until_async("the line of a file made anew", || count(&book, LogKind::LinkLost) == round * 5).await;
    }
    assert!(!book.lock().unwrap().view(clock()).skipped);
}
