//! The ledger fails: nothing that cannot be recorded is done.

use std::path::Path;
use std::process::Command;

use super::*;

/// Breaks the link while the ledger fails, sees that nothing is touched and that status says why; then mends the
/// ledger and sees the heal.
fn no_ledger_no_hands(desk: &mut Desk, words: &str, mend: impl FnOnce()) {
    rotate(desk);
    desk.group.replica(0).wait_link_down(PATIENCE).unwrap();
    let status = wait(desk, "the ledger's trouble", |status| !status["ledger_trouble"].is_null());
    assert!(status["ledger_trouble"].as_str().unwrap().contains(words), "{status:#}");
    let said = desk.run(&["status"]);
    assert!(said.out.contains("nothing is recorded, so nothing is changed"), "{}", said.out);
    // Longer than any look and retry: were it to act, it would have.
    std::thread::sleep(Duration::from_millis(2500));
    let set: Vec<String> = desk.group.replica(0).query(&["CONFIG", "GET", "masterauth"]).unwrap();
    assert_eq!(set[1], PASSWORD, "it acted without a record\n{}", desk.agent.log());
    mend();
    desk.group.replica(0).wait_link_up(PATIENCE).unwrap_or_else(|| panic!("no heal\n{}", desk.agent.log()));
    let resolved = told(desk, "resolved");
    assert_eq!(resolved["actions"][0]["remedy"], "realign-auth", "{resolved:#}");
    assert_eq!(desk.json(&["incidents"]).as_array().unwrap().len(), 1);
    is_sound(desk);
}

#[test]
fn a_locked_ledger_means_hands_off_until_it_is_free_redis_70() {
    let Some(kind) = redis() else { return };
    let mut desk = at_work(group(kind), &setup());
    let other = rusqlite::Connection::open(ledger(&desk)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    no_ledger_no_hands(&mut desk, "lock", || other.execute_batch("ROLLBACK").unwrap());
}

/// A tmpfs over the state directory, unmounted on drop.
struct Mounted(PathBuf);

impl Mounted {
    /// None where we may not mount.
    fn over(dir: &Path, size_kib: u32) -> Option<Mounted> {
        if !is_root() {
            lab::skip("only root may mount");
            return None;
        }
        fs::create_dir_all(dir).unwrap();
        let options = format!("size={size_kib}k,mode=0700");
        let done =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "relinkd-lab"]).arg(dir).status().unwrap();
        assert!(done.success());
        Some(Mounted(dir.to_owned()))
    }

    fn remount(&self, option: &str) {
        let option = format!("remount,{option}");
        assert!(Command::new("mount").args(["-o", &option]).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["--lazy"]).arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_under_the_ledger_means_hands_off_until_there_is_room_redis_70() {
    let Some(kind) = redis() else { return };
    let mut desk = Desk::new(group(kind));
    desk.configure(&setup());
    let state = desk.agent.dir().join("state");
    let Some(mounted) = Mounted::over(&state, 1024) else { return };
    desk.agent.start_again().unwrap();
    well(&desk, "watching");
    let ballast = state.join("ballast");
    let mut size = 1 << 20;
    let mut filled = Vec::new();
    while size >= 4096 {
        filled.resize(filled.len() + size, 0_u8);
        if fs::write(&ballast, &filled).is_err() {
            filled.truncate(filled.len() - size);
            size /= 2;
        }
    }
    no_ledger_no_hands(&mut desk, "no room", || fs::remove_file(&ballast).unwrap());
    desk.agent.stop().unwrap();
    drop(mounted);
}

#[test]
fn a_read_only_disk_means_hands_off_until_it_is_writable_redis_70() {
    let Some(kind) = redis() else { return };
    let mut desk = Desk::new(group(kind));
    desk.configure(&setup());
    let state = desk.agent.dir().join("state");
    let Some(mounted) = Mounted::over(&state, 4096) else { return };
    desk.agent.start_again().unwrap();
    well(&desk, "watching");
    // mount(8) is refused while the daemon has its files open for writing.
    desk.agent.stop().unwrap();
    mounted.remount("ro");
    desk.agent.start_again().unwrap();
    no_ledger_no_hands(&mut desk, "read-only", || mounted.remount("rw"));
    desk.agent.stop().unwrap();
    drop(mounted);
}

#[test]
fn a_corrupt_ledger_means_hands_off_until_it_is_out_of_the_way_redis_70() {
    let Some(kind) = redis() else { return };
    let mut desk = Desk::new(group(kind));
    desk.configure(&setup());
    let path = ledger(&desk);
    fs::write(&path, "no database at all\n".repeat(1000)).unwrap();
    desk.agent.start_again().unwrap();
    no_ledger_no_hands(&mut desk, "mv ", || fs::rename(&path, path.with_extension("broken")).unwrap());
}

#[test]
fn a_ledger_of_an_older_version_goes_on_where_it_ended_redis_70() {
    let Some(kind) = redis() else { return };
    let mut desk = Desk::new(group(kind));
    desk.configure(&setup());
    let old = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/ledger/v1.db");
    fs::copy(old, ledger(&desk)).unwrap();
    desk.agent.start_again().unwrap();
    let resolved = told(&desk, "resolved");
    assert_eq!(resolved["id"], "01HF7YAT00STILLOPEN", "its open incident ends: {resolved:#}");
    let names: Vec<String> = delivered(&desk).into_iter().map(|(name, ..)| name).collect();
    assert_eq!(names, ["01HF7YAT00STILLOPEN-1", "01HF7YAT00STILLOPEN-2"], "and its message was still to be sent");
    rotate(&desk);
    desk.group.replica(0).wait_link_down(PATIENCE).unwrap();
    desk.group.replica(0).wait_link_up(PATIENCE).unwrap_or_else(|| panic!("no heal\n{}", desk.agent.log()));
    is_sound(&mut desk);
}

/// As if the system's clock had been two days ahead, and was put right while relinkd did not run.
#[test]
fn a_clock_that_was_set_back_delays_no_heal_and_no_message_redis_70() {
    let Some(kind) = redis() else { return };
    let mut desk = at_work(group(kind), &setup());
    desk.receiver.answer_next([Answer::status(429).header("Retry-After", "600")]);
    rotate(&desk);
    desk.agent.wait_log("not delivered", PATIENCE).unwrap();
    desk.group.replica(0).wait_link_up(PATIENCE).expect("healed");
    assert!(desk.agent.stop().unwrap().success());
    let book = rusqlite::Connection::open(ledger(&desk)).unwrap();
    let ahead = "172800000000";
    book.execute_batch(&format!(
        "UPDATE entry SET at = at + {ahead};
         UPDATE incident SET opened_at = opened_at + {ahead}, touched_at = touched_at + {ahead};
         UPDATE notice SET at = at + {ahead};
         UPDATE delivery SET due_at = due_at + {ahead}"
    ))
    .unwrap();
    drop(book);
    let before = desk.receiver.requests().len();
    desk.agent.start_again().unwrap();
    assert!(desk.receiver.wait_for(before + 1, PATIENCE).is_some(), "the message waits\n{}", desk.agent.log());
    told(&desk, "resolved");
    desk.agent.write_file("masterauth", PASSWORD).unwrap();
    fault::rotate_password(desk.group.primary(), PASSWORD).unwrap().keep();
    desk.group.replica(0).wait_link_down(PATIENCE).unwrap();
    desk.group.replica(0).wait_link_up(PATIENCE).unwrap_or_else(|| panic!("no heal\n{}", desk.agent.log()));
    is_sound(&mut desk);
}

/// Its salt cannot be read at all, its ledger is held by another process: with many instances each attempt counts.
#[test]
fn a_state_directory_that_hangs_at_the_start_delays_no_watching_redis_70() {
    let Some(kind) = redis() else { return };
    let mut desk = at_work(group(kind), &setup());
    assert!(desk.agent.stop().unwrap().success());
    let book = rusqlite::Connection::open(ledger(&desk)).unwrap();
    book.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; UPDATE write_check SET count = 1; COMMIT")
        .unwrap();
    let salt = desk.agent.dir().join("state/salt");
    let bytes = fs::read(&salt).unwrap();
    fs::remove_file(&salt).unwrap();
    assert!(Command::new("mkfifo").arg(&salt).status().unwrap().success());
    let mut text = fs::read_to_string(desk.agent.config_path()).unwrap();
    for number in 0..40 {
        text += &format!("\n[replica.other{number}]\naddress = \"127.0.1.{number}:1\"\n");
    }
    let began = Instant::now();
    desk.agent.start(&text).unwrap();
    wait(&desk, "it watches", |status| !status["looked_at"].is_null());
    let watched = began.elapsed();
    println!("watching after {watched:?}");
    assert!(watched < Duration::from_secs(15), "{watched:?}\n{}", desk.agent.log());
    rotate(&desk);
    let status = wait(&desk, "it sees the break", |status| status["cause"] == "auth-rejected");
    assert!(status["ledger_trouble"].is_string(), "{status:#}");
    std::thread::sleep(Duration::from_millis(1500));
    let set: Vec<String> = desk.group.replica(0).query(&["CONFIG", "GET", "masterauth"]).unwrap();
    assert_eq!(set[1], PASSWORD, "it acted without a record\n{}", desk.agent.log());

    drop(book);
    let fresh = salt.with_extension("fresh");
    fs::write(&fresh, &bytes).unwrap();
    // Who waits for the pipe's other end is let go.
    let mut pipe = fs::File::options().write(true).open(&salt).unwrap();
    fs::rename(&fresh, &salt).unwrap();
    std::io::Write::write_all(&mut pipe, &bytes).unwrap();
    drop(pipe);
    desk.group.replica(0).wait_link_up(PATIENCE).unwrap_or_else(|| panic!("no heal\n{}", desk.agent.log()));
    assert_eq!(told(&desk, "resolved")["actions"][0]["remedy"], "realign-auth");
    is_sound(&mut desk);
}
