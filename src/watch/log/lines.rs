//! One log line taken apart: its time, its message, and the kind of fact that it tells. Pure.
//!
//! Three formats exist (server.c, serverLogRaw and serverLogRawFromHandler):
//!
//! ```text
//! 4711:S 23 Nov 2026 06:12:00.041 # Unable to AUTH to MASTER: -WRONGPASS …
//! 4711:signal-handler (1795414320) Received SIGTERM scheduling shutdown...
//! pid=4711 role=replica timestamp="2026-11-23T06:12:00.041Z" level=warning message="Unable to …"    (Valkey 8.1)
//! ```
//!
//! The timestamp is in the server's local time, without a zone, or (Valkey 8.1) ISO 8601 or milliseconds. A line
//! without any prefix, as syslog carries it, is all message.

use std::borrow::Cow;

use crate::model::Timestamp;
use crate::model::evidence::LogKind;

use super::phrases::{BEFORE, PHRASES, Phrase};

/// When a line says that it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stamp {
    Exact(Timestamp),
    /// Local time of a zone that the line does not name, read as if it were UTC.
    Local(Timestamp),
}

/// A line, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// The time as the line writes it; [`stamp`] reads it. Few lines need that.
    pub when: Option<&'a str>,
    pub message: &'a str,
}

/// What a line tells, and the message without its prefix; nothing for the many lines that tell no cause.
///
/// The arguments that a server repeats are cut off: where AUTH is renamed, the replica logs the primary's error, and
/// with it the password (Redis 7.0.15, processCommand: `unknown command 'AUTH', with args beginning with: …`).
/// So is what follows a repeated AUTH: a peer that is no server may echo all that the replica said to it.
pub fn classify(line: &str) -> Option<(LogKind, &str)> {
    let message = parse(line).message;
    let message = message.split_once(", with args beginning with").map_or(message, |(kept, _)| kept);
    let message = before_echo(message);
    let said = BEFORE.iter().fold(message, |rest, before| rest.strip_prefix(before).unwrap_or(rest));
    PHRASES.iter().find(|phrase| matches(said, phrase)).map(|phrase| (phrase.kind, message))
}

/// The message up to the arguments of an AUTH that it repeats. `AUTH <password>` is how servers speak of the command
/// itself, `Unable to AUTH to …` and `Error sending AUTH to …` how a replica does.
fn before_echo(message: &str) -> &str {
    let echo = message.match_indices("AUTH ").find(|(at, found)| {
        let (before, after) = (message.split_at(*at).0, message.split_at(at + found.len()).1);
        let is_word = !before.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '<');
        is_word
            && !after.starts_with("<password>")
            && !["Unable to ", "Error sending "].iter().any(|own| before.ends_with(own))
    });
    echo.map_or(message, |(at, found)| message.split_at(at + found.len() - 1).0)
}

/// The server's own line out of what others put around it: Docker's json-file, the log of a Kubernetes container (CRI),
/// syslog's `tag[pid]: `. A line that is the server's as it stands comes back untouched.
pub(super) fn unwrapped(line: &str) -> Cow<'_, str> {
    if logfmt(line).or_else(|| legacy(line)).is_some() {
        return Cow::Borrowed(line);
    }
    if line.starts_with('{') {
        let inner = serde_json::from_str::<Json>(line).ok().map(|json| json.log.trim_end().to_owned());
        return inner.map_or(Cow::Borrowed(line), Cow::Owned);
    }
    Cow::Borrowed(cri(line).or_else(|| syslog(line)).unwrap_or(line))
}

#[derive(serde::Deserialize)]
struct Json {
    log: String,
}

/// `2026-11-23T06:12:00.041Z stdout F …`
fn cri(line: &str) -> Option<&str> {
    let (when, rest) = line.split_once(' ')?;
    let rest = rest.strip_prefix("stdout ").or_else(|| rest.strip_prefix("stderr "))?;
    let (tag, rest) = rest.split_once(' ')?;
    (matches!(tag, "F" | "P") && when.parse::<jiff::Timestamp>().is_ok()).then_some(rest)
}

/// `Nov 23 06:12:00 db-21 redis[4711]: …`
fn syslog(line: &str) -> Option<&str> {
    const AT_MOST: usize = 200;
    let (head, rest) = line.split_once("]: ").filter(|(head, _)| head.len() <= AT_MOST)?;
    let (before, pid) = head.rsplit_once('[')?;
    let words = before.split(' ').filter(|word| !word.is_empty()).count();
    (words >= 3 && !pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit())).then_some(rest)
}

/// Whether the end of this log has a line that a server may have written; none where it is too short to say.
pub fn tells_of_a_server(tail: &[u8]) -> Option<bool> {
    let text = String::from_utf8_lossy(tail);
    match text.lines().any(is_a_servers) {
        true => Some(true),
        false => (tail.len() >= super::book::STRANGE).then_some(false),
    }
}

/// Whether it is a line that a server may have written.
pub(super) fn is_a_servers(line: &str) -> bool {
    let inner = unwrapped(line);
    parse(&inner).when.is_some() || classify(&inner).is_some() || inner != line
}

pub(super) fn parse(line: &str) -> Line<'_> {
    let line = line.trim_end();
    logfmt(line).or_else(|| legacy(line)).unwrap_or(Line { when: None, message: line })
}

fn logfmt(line: &str) -> Option<Line<'_>> {
    let rest = line.strip_prefix("pid=")?;
    let (head, message) = rest.split_once(" message=\"")?;
    let when = head.split_once("timestamp=\"").and_then(|(_, rest)| rest.split_once('"')).map(|(when, _)| when);
    Some(Line { when, message: message.strip_suffix('"').unwrap_or(message) })
}

fn legacy(line: &str) -> Option<Line<'_>> {
    let (pid, rest) = line.split_once(':')?;
    if pid.is_empty() || !pid.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    if let Some(rest) = rest.strip_prefix("signal-handler (") {
        let (seconds, message) = rest.split_once(") ")?;
        return Some(Line { when: Some(seconds), message });
    }
    let (role, rest) = rest.split_once(' ')?;
    if role.len() != 1 {
        return None;
    }
    // A local time has four words, the other two formats have one; the level is one character either way.
    let words = if rest.as_bytes().get(2) == Some(&b' ') { 4 } else { 1 };
    let end = rest.match_indices(' ').nth(words - 1)?.0;
    let (when, rest) = rest.split_at(end);
    let (level, message) = rest.strip_prefix(' ')?.split_once(' ')?;
    (level.len() == 1).then_some(Line { when: Some(when), message })
}

/// Reads a line's time. Digits alone are seconds where a signal handler wrote them, and milliseconds else.
pub(super) fn stamp(text: &str) -> Option<Stamp> {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        let number: i64 = text.parse().ok()?;
        let unit = if number < 100_000_000_000 { 1_000_000 } else { 1_000 };
        return Some(Stamp::Exact(Timestamp(number.checked_mul(unit)?)));
    }
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Some(Stamp::Exact(Timestamp(at.as_microsecond())));
    }
    local(text).map(Stamp::Local)
}

/// `23 Nov 2026 06:12:00.041`. Month names are English whatever the locale: the server sets LC_COLLATE alone.
fn local(text: &str) -> Option<Timestamp> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.split(' ');
    let day: i8 = words.next()?.parse().ok()?;
    let month = words.next()?;
    let month = i8::try_from(MONTHS.iter().position(|m| *m == month)? + 1).ok()?;
    let year: i16 = words.next()?.parse().ok()?;
    let date = jiff::civil::Date::new(year, month, day).ok()?;
    let time: jiff::civil::Time = words.next()?.parse().ok()?;
    let at = jiff::tz::TimeZone::UTC.to_timestamp(date.to_datetime(time)).ok()?;
    Some(Timestamp(at.as_microsecond()))
}

fn matches(message: &str, phrase: &Phrase) -> bool {
    begins(message, phrase.starts) && phrase.holds.iter().all(|part| message.contains(part))
}

/// Whether the message begins with the phrase, `{P}` standing for either word in any case.
fn begins(message: &str, phrase: &str) -> bool {
    let mut rest = message;
    for (index, piece) in phrase.split("{P}").enumerate() {
        if index > 0 {
            match primary_word(rest) {
                Some(after) => rest = after,
                None => return false,
            }
        }
        match rest.strip_prefix(piece) {
            Some(after) => rest = after,
            None => return false,
        }
    }
    true
}

fn primary_word(text: &str) -> Option<&str> {
    ["master", "primary"].iter().find_map(|word| {
        let (head, rest) = text.split_at_checked(word.len())?;
        head.eq_ignore_ascii_case(word).then_some(rest)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_gives_the_same_message() {
        let message = "Unable to AUTH to MASTER: -WRONGPASS invalid";
        let at = Stamp::Exact(Timestamp::from_millis(1_795_414_320_041));
        for (line, stamp) in [
            (
                format!("4711:S 23 Nov 2026 06:12:00.041 # {message}"),
                Some(Stamp::Local(Timestamp::from_millis(1_795_414_320_041))),
            ),
            (format!("4711:S 2026-11-23T07:12:00.041+01:00 # {message}"), Some(at)),
            (format!("4711:S 1795414320041 # {message}\r"), Some(at)),
            (
                format!(
                    "pid=4711 role=replica timestamp=\"2026-11-23T06:12:00.041+00:00\" level=warning message=\"{message}\""
                ),
                Some(at),
            ),
            (
                format!(
                    "pid=4711 role=replica timestamp=\"23 Nov 2026 06:12:00.041\" level=warning message=\"{message}\""
                ),
                Some(Stamp::Local(Timestamp::from_millis(1_795_414_320_041))),
            ),
            (message.to_owned(), None),
        ] {
            let found = parse(&line);
            assert_eq!((found.when.and_then(super::stamp), found.message), (stamp, message), "{line}");
        }
        let handler = parse("4711:signal-handler (1795414320) Received SIGTERM scheduling shutdown...");
        assert_eq!(handler.message, "Received SIGTERM scheduling shutdown...");
        assert_eq!(handler.when.and_then(stamp), Some(Stamp::Exact(Timestamp(1_795_414_320_000_000))));
    }

    #[test]
    fn a_broken_prefix_is_no_panic() {
        for line in [
            "",
            ":",
            "1:",
            "1:S",
            "1:S ",
            "1:S 23",
            "1:S 23 Nov",
            "1:S 99 Foo 2026 25:61:61.9 # x",
            "1:é 23 é",
            "pid=",
            "pid=1 message=\"",
            "1:S 9223372036854775807 # x",
            "1:signal-handler (",
            "1:signal-handler (99999999999999999999) x",
            "\u{fffd}:S é",
        ] {
            let _ = (parse(line).when.and_then(stamp), classify(line));
        }
    }

    #[test]
    fn what_others_put_around_a_line_is_taken_off() {
        let own = "1:S 23 Nov 2026 06:12:00.041 * MASTER <-> REPLICA sync: Finished with success";
        let json = serde_json::json!({ "log": format!("{own}\n"), "stream": "stdout", "time": "2026-11-23T06:12:00Z" });
        let escaped = json.to_string().replace('<', "\\u003c").replace('>', "\\u003e");
        for line in [
            own.to_owned(),
            json.to_string(),
            escaped,
            format!("2026-11-23T06:12:00.041234567Z stdout F {own}"),
            format!("Nov 23 06:12:00 db-21 redis-server[4711]: {own}"),
            format!(
                "2026-11-23T06:12:00.041+00:00 db-21 redis[4711]: {}",
                "MASTER <-> REPLICA sync: Finished with success"
            ),
        ] {
            assert_eq!(classify(&unwrapped(&line)).map(|(kind, _)| kind), Some(LogKind::SyncFinished), "{line}");
            assert!(is_a_servers(&line));
        }
        for line in ["{\"log\":", "{}", "2026-11-23T06:12:00Z stdout", "GET /index.html [12]: x", "", "a b c []: x"] {
            assert_eq!(unwrapped(line), line);
            assert!(!is_a_servers(line), "{line}");
        }
    }

    #[test]
    fn either_word_in_any_case_is_a_primary() {
        for word in ["MASTER", "master", "Master", "PRIMARY", "primary", "Primary"] {
            let line = format!("1:S 23 Nov 2026 06:12:00.041 * Connection with {word} lost.");
            assert_eq!(classify(&line).map(|(kind, _)| kind), Some(LogKind::LinkLost), "{line}");
        }
        assert_eq!(classify("1:S 23 Nov 2026 06:12:00.041 * Connection with replica 10.0.0.1:6379 lost."), None);
        assert_eq!(classify("Connection with mÄster lost."), None);
    }

    #[test]
    fn the_level_is_never_a_key() {
        for level in [".", "-", "*", "#"] {
            let line = format!("1:S 23 Nov 2026 06:12:00.041 {level} Connection with master lost.");
            assert_eq!(classify(&line), Some((LogKind::LinkLost, "Connection with master lost.")));
        }
    }

    #[test]
    fn a_password_that_a_server_repeats_is_cut_off() {
        for quote in ["'", "`"] {
            let said = format!("Unable to AUTH to MASTER: -ERR unknown command {quote}AUTH{quote}");
            let line = format!("1:S 1795414320041 # {said}, with args beginning with: {quote}hunter2{quote} ");
            assert_eq!(classify(&line), Some((LogKind::AuthFailed, said.as_str())));
        }
    }

    #[test]
    fn what_follows_a_repeated_auth_is_cut_off_and_real_words_stay() {
        for (whole, kept) in [
            (
                "Unable to AUTH to MASTER: -ERR I heard $4 AUTH $7 hunter2",
                "Unable to AUTH to MASTER: -ERR I heard $4 AUTH",
            ),
            ("Error reply to PING from master: '-ERR AUTH hunter2'", "Error reply to PING from master: '-ERR AUTH"),
            ("Unable to AUTH to MASTER: -WRONGPASS invalid", "Unable to AUTH to MASTER: -WRONGPASS invalid"),
            ("Error: '-NOAUTH Authentication required.'", "Error: '-NOAUTH Authentication required.'"),
            ("-ERR AUTH <password> called without any password", "-ERR AUTH <password> called without any password"),
            ("-ERR Client sent AUTH, but no password is set", "-ERR Client sent AUTH, but no password is set"),
        ] {
            assert_eq!(before_echo(whole), kept);
        }
    }

    #[test]
    fn a_clients_output_buffer_is_not_a_replicas() {
        let cut = |flags: &str| {
            format!(
                "1:M 23 Nov 2026 06:12:00.041 # Client id=7 addr=127.0.0.1:1 flags={flags} db=0 scheduled to be closed ASAP for overcoming of output buffer limits."
            )
        };
        assert_eq!(classify(&cut("S")).map(|(kind, _)| kind), Some(LogKind::OutputBufferCut));
        assert_eq!(classify(&cut("P")), None);
    }
}
