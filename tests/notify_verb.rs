//! `relinkd notify test`: what a receiver answers, or does not, as a person and a script are told. No daemon, no server.

mod live;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lab::{Answer, Receiver};
use live::RELINKD;
use live::desk::Said;
use serde_json::Value;

/// Stands in every URL and signing secret here, and must stand in nothing that is printed.
const CANARY: &str = "T0CANARYB0";
const SIGNING: &str = "whsec_VDBDQU5BUllCMFQwQ0FOQVJZQjBUMENBTkFSWQ==";

/// A configuration with channels to receivers of our own.
struct Desk {
    dir: tempfile::TempDir,
    ops: Receiver,
    chat: Receiver,
}

impl Desk {
    fn new() -> Desk {
        let desk = Desk {
            dir: tempfile::tempdir().unwrap(),
            ops: Receiver::start().unwrap(),
            chat: Receiver::start().unwrap(),
        };
        let ops = desk.secret("ops-url", &format!("{}{CANARY}", desk.ops.url()));
        let signing = desk.secret("signing", SIGNING);
        let chat = desk.secret("chat-url", &format!("{}services/{CANARY}", desk.chat.url()));
        desk.configure(&format!(
            "[notify.ops]\nkind = \"webhook\"\nurl = {{ file = {ops:?} }}\nsecret = {{ file = {signing:?} }}\n\
             [notify.chat]\nkind = \"slack\"\nurl = {{ file = {chat:?} }}\n"
        ));
        desk
    }

    fn secret(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        path
    }

    fn configure(&self, channels: &str) {
        let dir = self.dir.path().display();
        let text = format!(
            "[agent]\nhost = \"db-21\"\nstate_dir = \"{dir}/state\"\nrun_dir = \"{dir}/run\"\nlisten = \"off\"\n\
             [replica.cache]\naddress = \"127.0.0.1:1\"\n{channels}"
        );
        std::fs::write(self.config(), text).unwrap();
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("config.toml")
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(RELINKD);
        command.arg("--config").arg(self.config()).args(["notify", "test"]).args(words).stdin(Stdio::null());
        command.env_remove("CREDENTIALS_DIRECTORY").env_remove("NOTIFY_SOCKET");
        command
    }

    fn test(&self, words: &[&str]) -> Said {
        told(&mut self.command(words))
    }

    fn json(&self, words: &[&str]) -> Value {
        self.test(&[words, &["--json"]].concat()).json()
    }

    /// How a test of `ops` is told where its receiver gives this answer.
    fn answered(&self, answer: Answer) -> Said {
        self.ops.answer_next([answer]);
        self.test(&["ops"])
    }
}

#[track_caller]
fn told(command: &mut Command) -> Said {
    let said = Said::of(&command.output().unwrap());
    for text in [&said.out, &said.err] {
        assert!(!text.contains("CANARY") && !text.contains("VDBDQU5B") && !text.contains('\u{1b}'), "{said:?}");
    }
    said
}

#[test]
fn a_test_message_arrives_as_any_other() {
    let desk = Desk::new();
    let said = desk.test(&["ops"]);
    assert!(said.exit == 0 && said.out.starts_with("delivered ops (webhook): taken in "), "{said:?}");
    let requests = desk.ops.requests();
    assert_eq!((requests.len(), desk.chat.requests().len()), (1, 0), "only the one that was named");
    assert!(requests[0].header("webhook-signature").is_some_and(|signature| signature.starts_with("v1,")));
    let message = requests[0].json().unwrap();
    assert!(message["id"].as_str().is_some_and(|id| id.starts_with("TEST-")), "{message:#}");
    assert_eq!((&message["host"], &message["version"]), (&"db-21".into(), &1.into()), "{message:#}");

    desk.chat.answer_next([Answer::status(200).body("ok")]);
    let all = desk.json(&[]);
    assert_eq!(all["ok"], true, "{all:#}");
    let outcomes: Vec<_> = all["channels"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (&one["channel"], &one["kind"], &one["outcome"]))
        .collect();
    let (slack, webhook) = (Value::from("slack"), Value::from("webhook"));
    let delivered = Value::from("delivered");
    assert_eq!(outcomes, [(&"chat".into(), &slack, &delivered), (&"ops".into(), &webhook, &delivered)]);
    assert!(desk.chat.messages()[0].to_string().contains("nothing is wrong"));
    assert!(!desk.dir.path().join("state").exists() && !desk.dir.path().join("run").exists(), "something was recorded");
}

#[test]
fn what_the_receiver_makes_of_it_is_the_exit_code() {
    let desk = Desk::new();
    for (answer, exit, words) in [
        (Answer::status(404), 1, "refused ops (webhook): HTTP 404 Not Found"),
        (Answer::status(401), 1, "HTTP 401 Unauthorized"),
        (Answer::status(410), 1, "the receiver wants no more messages"),
        (Answer::status(503), 69, "not delivered ops (webhook): HTTP 503"),
        (Answer::status(429).header("retry-after", "60"), 69, "HTTP 429"),
    ] {
        let said = desk.answered(answer);
        assert!(said.exit == exit && said.out.contains(words), "{words}: {said:?}");
    }

    let there = format!("{}{CANARY}", desk.chat.url());
    let said = desk.answered(Answer::status(302).header("location", &there));
    assert!(said.exit == 1 && said.out.contains("redirects are not followed"), "{said:?}");
    assert!(desk.chat.requests().is_empty(), "it was followed");

    // One of two is refused: the other one is told as well.
    desk.chat.answer_next([Answer::status(404).body("no_service")]);
    let all = desk.json(&[]);
    assert_eq!(all["ok"], false, "{all:#}");
    assert_eq!(all["channels"][0]["outcome"], "refused", "{all:#}");
    assert!(all["channels"][0]["detail"].as_str().unwrap().contains("no_service"), "{all:#}");
    assert_eq!(all["channels"][1]["outcome"], "delivered", "{all:#}");

    let Desk { dir, ops, chat } = desk;
    drop(ops);
    let desk = Desk { dir, ops: Receiver::start().unwrap(), chat };
    let said = desk.test(&["ops"]);
    assert!(said.exit == 69 && said.out.contains("not delivered ops (webhook): no connection"), "{said:?}");
}

#[test]
fn what_cannot_be_sent_says_why_and_what_next() {
    let desk = Desk::new();
    let said = desk.test(&["opps"]);
    assert_eq!((said.exit, said.out.as_str()), (64, ""), "{said:?}");
    assert!(
        said.err.contains("no channel is called \"opps\"") && said.err.contains("did you mean \"ops\"?"),
        "{said:?}"
    );
    let said = desk.test(&["telephone"]);
    assert!(said.exit == 64 && said.err.contains("known here: chat, ops"), "{said:?}");
    let said = told(Command::new(RELINKD).args(["notify", "tset"]));
    assert!(said.exit == 64 && said.err.contains("test"), "{said:?}");

    desk.secret("ops-url", "https//CANARY.example/hook");
    let said = desk.test(&["ops"]);
    assert!(said.exit == 1 && said.out.contains("not sent ops (webhook)"), "{said:?}");
    assert!(said.out.contains("ops-url does not hold a URL"), "{said:?}");
    std::fs::remove_file(desk.dir.path().join("ops-url")).unwrap();
    let said = desk.test(&["ops"]);
    assert!(said.exit == 1 && said.out.contains("no such file"), "{said:?}");

    // What systemd lays out for the unit is not to be had here, and that says nothing of the channel.
    desk.configure("[notify.ops]\nkind = \"webhook\"\nurl = { credential = \"ops-url\" }\n");
    let said = desk.test(&[]);
    assert!(said.exit == 3 && said.out.starts_with("not tested ops (webhook)"), "{said:?}");
    let command = format!(
        "--property=LoadCredential=ops-url:/etc/relinkd/ops-url relinkd --config {} notify test ops",
        desk.config().display()
    );
    assert!(said.out.contains(&command), "{said:?}");
    let laid = desk.secret("ops-url", &format!("{}{CANARY}", desk.ops.url()));
    let said = told(desk.command(&[]).env("CREDENTIALS_DIRECTORY", laid.parent().unwrap()));
    assert!(said.exit == 0 && desk.ops.requests().len() == 1, "as in the unit: {said:?}");

    desk.configure("");
    let said = desk.test(&["--json"]);
    assert_eq!((said.exit, said.out.as_str()), (78, ""), "{said:?}");
    assert!(said.err.contains("no channel is configured") && said.err.contains("[notify.NAME]"), "{said:?}");
}

#[test]
fn a_secret_that_is_kept_from_this_user_is_77() {
    if !std::fs::metadata("/proc/self").is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0) {
        return lab::skip("only root can become another user");
    }
    let desk = Desk::new();
    // The binary may lie where another user cannot reach it.
    let binary = desk.dir.path().join("relinkd");
    std::fs::copy(RELINKD, &binary).unwrap();
    let open = |path: &Path, mode| {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    };
    open(desk.dir.path(), 0o755);
    open(&binary, 0o755);
    open(&desk.config(), 0o644);
    let mut command = Command::new(&binary);
    command.arg("--config").arg(desk.config()).args(["notify", "test", "ops"]).current_dir("/");
    let said = told(std::os::unix::process::CommandExt::uid(&mut command, 65_534));
    assert!(said.exit == 77 && said.out.contains("ops-url: permission denied to uid 65534"), "{said:?}");
    assert!(desk.ops.requests().is_empty());
}

/// A receiver that once answered 410 gets nothing from the daemon until a reload, however well a test goes.
#[test]
fn a_channel_that_the_daemon_has_switched_off_is_said_so() {
    let desk = Desk::new();
    let state = desk.dir.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let retention = relinkd::ledger::Retention { max_age: std::time::Duration::from_secs(3600), max_bytes: 1 << 24 };
    let mut ledger = relinkd::ledger::Ledger::open(&state.join("ledger.db"), retention).unwrap();
    ledger.disable_channel("ops", relinkd::model::Timestamp(1_700_000_000_000_000), "HTTP 410 Gone").unwrap();
    let said = desk.test(&["ops"]);
    assert!(said.exit == 0 && said.out.contains("has sent nothing there since 2023-11-14"), "{said:?}");
    assert!(said.out.contains("HTTP 410 Gone") && said.out.contains("systemctl reload relinkd"), "{said:?}");
}
