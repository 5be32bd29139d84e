use std::io::Write;

use super::*;

const STEP: Duration = Duration::from_millis(200);

struct Fixture {
    dir: tempfile::TempDir,
    file: LogFile,
}

impl Fixture {
    fn new(bytes_per_s: u64) -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let file = LogFile::new(dir.path().join("log"), bytes_per_s);
        Fixture { dir, file }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// As the server does: opened anew for each line.
    fn write(&self, text: impl AsRef<[u8]>) {
        OpenOptions::new().append(true).create(true).open(self.path()).unwrap().write_all(text.as_ref()).unwrap();
    }

    fn begin(&mut self) -> Vec<String> {
        self.file.begin().unwrap().into_iter().map(|(_, line)| String::from_utf8_lossy(&line).into_owned()).collect()
    }

    fn poll(&mut self) -> Vec<String> {
        self.poll_with().1
    }

    fn poll_with(&mut self) -> (Grown, Vec<String>) {
        let mut lines = Vec::new();
        let grown = self.file.poll(STEP, &mut |line| lines.push(String::from_utf8_lossy(line).into_owned())).unwrap();
        (grown, lines)
    }
}

#[test]
fn follows_growth_and_waits_for_whole_lines() {
    let mut log = Fixture::new(1 << 20);
    log.write("before\n");
    log.begin();
    assert_eq!(log.poll(), [""; 0]);
    log.write("one\ntw");
    assert_eq!(log.poll(), ["one"]);
    log.write("o\n\u{fffd}");
    assert_eq!(log.poll(), ["two"]);
    log.write(b"\xff\xfe\n");
    assert_eq!(log.poll(), ["\u{fffd}\u{fffd}\u{fffd}"]);
}

#[test]
fn rotation_by_rename_loses_no_line() {
    let mut log = Fixture::new(1 << 20);
    log.write("");
    log.begin();
    log.write("one\n");
    assert_eq!(log.poll(), ["one"]);
    log.write("two\n");
    std::fs::rename(log.path(), log.dir.path().join("log.1")).unwrap();
    log.write("three\n");
    assert_eq!(log.poll(), ["two", "three"]);
    log.write("four\n");
    assert_eq!(log.poll(), ["four"]);
}

#[test]
fn rotation_by_copy_and_truncate_is_noticed() {
    let mut log = Fixture::new(1 << 20);
    log.write("");
    log.begin();
    log.write("one is a long line\n");
    assert_eq!(log.poll(), ["one is a long line"]);
    File::create(log.path()).unwrap();
    log.write("two\n");
    assert_eq!(log.poll(), ["two"]);
    // Truncated, and grown past our place before we looked again.
    File::create(log.path()).unwrap();
    log.write("three is longer than what stood there before\nfour\n");
    assert_eq!(log.poll(), ["three is longer than what stood there before", "four"]);
}

#[test]
fn a_deleted_file_is_let_go_and_its_successor_read_from_the_start() {
    let mut log = Fixture::new(1 << 20);
    log.write("");
    log.begin();
    log.write("one\n");
    std::fs::remove_file(log.path()).unwrap();
    assert_eq!(log.poll(), ["one"]);
    assert!(log.file.open.is_none(), "a deleted log must not be kept from being freed");
    assert_eq!(log.poll(), [""; 0]);
    log.write("two\n");
    assert_eq!(log.poll(), ["two"]);
}

#[test]
fn of_a_flood_the_beginning_and_the_end_are_read() {
    let mut log = Fixture::new(10_000);
    log.write("");
    log.begin();
    let mut flood = String::from("first\n");
    (0..100_000).for_each(|n| flood.push_str(&format!("line {n}\n")));
    log.write(flood + "last\n");
    let (grown, lines) = log.poll_with();
    assert!(grown.skipped && grown.bytes > 1_000_000);
    assert_eq!((lines.first().unwrap().as_str(), lines.last().unwrap().as_str()), ("first", "last"));
    assert!(lines.iter().map(|line| line.len() + 1).sum::<usize>() <= 10_000);
    assert!(lines.iter().all(|line| line.starts_with("line ") || line == "first" || line == "last"), "a torn line");
    // The budget is spent; a fifth of a second gives a fifth of it.
    log.write("x\n".repeat(100_000));
    let (grown, lines) = log.poll_with();
    assert!(grown.skipped && (900..=1_000).contains(&lines.len()), "{}", lines.len());
}

#[test]
fn what_cannot_be_read_is_a_reason_and_is_tried_again() {
    let mut log = Fixture::new(1 << 20);
    let why = log.file.begin().unwrap_err();
    assert!(matches!(&why, Missing::Unsupported(text) if text.ends_with("does not exist")), "{why}");
    std::fs::create_dir(log.path()).unwrap();
    let why = log.file.begin().unwrap_err();
    assert!(matches!(&why, Missing::Unsupported(text) if text.ends_with("not a regular file")), "{why}");
    std::fs::remove_dir(log.path()).unwrap();
    log.write("1:S 23 Nov 2026 06:12:00.041 * one\n");
    assert_eq!(log.begin().len(), 1);
    std::fs::rename(log.path(), log.dir.path().join("away")).unwrap();
    std::fs::create_dir(log.path()).unwrap();
    assert!(log.file.poll(STEP, &mut |_| {}).is_err());
    std::fs::remove_dir(log.path()).unwrap();
    log.write("two\n");
    assert_eq!(log.poll(), ["two"]);
}

#[test]
fn old_lines_are_read_back_within_bounds_and_dated_whatever_the_zone() {
    let mut log = Fixture::new(1 << 20);
    let modified = 1_795_414_320_041;
    let line = |at: i64, text: &str| {
        let civil = jiff::Timestamp::from_millisecond(at + 5 * 3_600_000 + 30 * 60_000).unwrap();
        format!("1:S {} * {text}\n", civil.strftime("%d %b %Y %H:%M:%S.%3f"))
    };
    log.write("padding ".repeat(20_000) + "\nno time of its own\n");
    log.write(line(modified - 90_000, "earlier") + &line(modified - 3, "newest"));
    log.write("1:S 1795414320000 * exact\n");
    let mtime = std::time::UNIX_EPOCH + Duration::from_millis(modified.unsigned_abs());
    File::options().write(true).open(log.path()).unwrap().set_modified(mtime).unwrap();
    let old = log.file.begin().unwrap();
    let found: Vec<(i64, String)> = old
        .iter()
        .map(|(at, line)| (at.as_millis(), parse(&String::from_utf8_lossy(line)).message.to_owned()))
        .collect();
    let want = [(modified - 90_000, "earlier"), (modified - 3, "newest"), (1_795_414_320_000, "exact")];
    assert_eq!(found, want.map(|(at, text)| (at, text.to_owned())));
}
