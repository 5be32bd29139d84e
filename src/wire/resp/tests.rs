//! The decoder by tables, against the parser of the `redis` crate, and against captures that were damaged.

use std::path::Path;

use redis::Value;

use super::*;
use crate::wire::reply::{info, peer_role, sentinel, settings};

fn decode(bytes: &[u8]) -> Result<Option<(Reply, usize)>, WireError> {
    Decoder::new(CAP).advance(bytes)
}

fn text(word: &str) -> Reply {
    Reply::Text(word.into())
}

#[test]
fn replies_are_read() {
    let cases: [(&[u8], Reply); 9] = [
        (b"+PONG\r\n", text("PONG")),
        (b":-42\r\n", Reply::Int(-42)),
        (b"$5\r\na\r\nbc\r\n", text("a\r\nbc")),
        (b"$0\r\n\r\n", text("")),
        (b"$-1\r\n", Reply::Nil),
        (b"*-1\r\n", Reply::Nil),
        (b"*0\r\n", Reply::List(vec![])),
        (b"-ERR no\r\n", Reply::Error { code: "ERR".into(), text: "ERR no".into() }),
        (
            b"*3\r\n*2\r\n:1\r\n*0\r\n$1\r\nx\r\n*1\r\n+y\r\n",
            Reply::List(vec![
                Reply::List(vec![Reply::Int(1), Reply::List(vec![])]),
                text("x"),
                Reply::List(vec![text("y")]),
            ]),
        ),
    ];
    for (bytes, expected) in cases {
        assert_eq!(decode(bytes), Ok(Some((expected, bytes.len()))), "{bytes:?}");
    }
    assert_eq!(decode(b"+\xff\xfeok\r\n:1\r\n"), Ok(Some((text("\u{fffd}\u{fffd}ok"), 7))));
}

#[test]
fn bytes_that_are_no_resp_are_shown_tamed() {
    for bytes in [
        b"HTTP/1.1 400 Bad Request\r\n".as_slice(),
        b"\x16\x03\x01\x02",
        b"%1\r\n+a\r\n+b\r\n",
        b":12x\r\n",
        b"$-2\r\n",
        b"*-7\r\n",
        b"$1\r\nabc\r\n",
        b"$9999999999999999999999999999999999999999999",
        b"*99999999999999999999\r\n",
    ] {
        let told = decode(bytes).unwrap_err();
        let WireError::Protocol(text) = &told else { panic!("{bytes:?}: {told:?}") };
        assert!(!text.contains(|c: char| c.is_control()) && text.len() < 200, "{text}");
    }
    let mut line = vec![b'+'];
    line.resize(MAX_LINE + 10, b'a');
    assert!(matches!(decode(&line), Err(WireError::Protocol(_))));
}

#[test]
fn announced_sizes_are_believed_only_so_far() {
    assert_eq!(decode(b"*1000000000\r\n"), Err(WireError::TooLarge(1_000_000_000)));
    assert_eq!(decode(b"$999999999\r\n"), Err(WireError::TooLarge(999_999_999)));
    assert_eq!(decode(b"$9223372036854775807\r\n"), Err(WireError::TooLarge(i64::MAX as usize)));
    assert_eq!(decode(format!("${CAP}\r\n").as_bytes()), Err(WireError::TooLarge(CAP)));
    assert_eq!(decode(b"$1000000\r\nabc"), Ok(None));
    assert_eq!(decode(b"*60000\r\n"), Ok(None));
    let many = [b"*60000\r\n*60000\r\n".as_slice(), &b":1\r\n".repeat(MAX_ELEMENTS)].concat();
    assert!(matches!(decode(&many), Err(WireError::TooLarge(_))));
    let deep = b"*1\r\n".repeat(MAX_DEPTH + 1);
    assert!(matches!(decode(&deep), Err(WireError::Protocol(text)) if text.starts_with("*1")));
    let fitting = [b"*1\r\n".repeat(MAX_DEPTH), b":1\r\n".to_vec()].concat();
    assert!(matches!(decode(&fitting), Ok(Some(_))));
}

#[test]
fn a_buffer_keeps_what_is_not_consumed() {
    let mut buffer = Buffer::default();
    buffer.append(b"hello ");
    buffer.append(&[b'x'; 1000]);
    buffer.consume(6);
    assert_eq!(buffer.bytes(), [b'x'; 1000]);
    buffer.consume(5000);
    assert!(buffer.bytes().is_empty());
}

#[test]
fn commands_are_encoded() {
    let mut out = Buffer::default();
    encode([b"AUTH".as_slice(), b"", "\u{e9}".as_bytes()].into_iter(), &mut out);
    assert_eq!(out.bytes(), "*3\r\n$4\r\nAUTH\r\n$0\r\n\r\n$2\r\n\u{e9}\r\n".as_bytes());
}

fn captures() -> Vec<(String, Vec<u8>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/replies");
    let mut files = Vec::new();
    for server in std::fs::read_dir(root).unwrap() {
        let server = server.unwrap().path();
        for file in std::fs::read_dir(&server).into_iter().flatten() {
            let path = file.unwrap().path();
            files.push((path.display().to_string(), std::fs::read(&path).unwrap()));
        }
    }
    files.sort();
    assert!(files.len() > 80, "captures are missing");
    files
}

/// The same reply in the words of the `redis` crate.
fn same(ours: &Reply, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Reply::Nil, Value::Nil) => true,
        (Reply::Int(a), Value::Int(b)) => a == b,
        (Reply::Text(a), Value::BulkString(b)) => a.as_bytes() == b,
        (Reply::Text(a), Value::SimpleString(b)) => a == b,
        (Reply::Text(a), Value::Okay) => a == "OK",
        (Reply::List(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Reply::Error { code, .. }, Value::ServerError(error)) => code == error.code(),
        _ => false,
    }
}

#[test]
fn captures_read_the_same_as_with_the_redis_crate() {
    for (name, bytes) in captures() {
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (ours, length) = decode(rest).unwrap().unwrap();
            let theirs = redis::parse_redis_value(&rest[..length]).unwrap();
            assert!(same(&ours, &theirs), "{name}: {ours:?} is not {theirs:?}");
            rest = &rest[length..];
        }
    }
}

#[test]
fn a_reply_is_the_same_however_it_is_cut() {
    for (name, bytes) in captures() {
        let whole = decode(&bytes).unwrap();
        for step in [1, 7, 1000] {
            let mut decoder = Decoder::new(CAP);
            let mut end = 0;
            let got = loop {
                end = (end + step).min(bytes.len());
                match decoder.advance(&bytes[..end]).unwrap() {
                    Some(done) => break Some(done),
                    None => assert!(end < bytes.len(), "{name} never ended"),
                }
            };
            assert_eq!(got, whole, "{name} by {step}");
        }
    }
}

/// xorshift64*: the same damage in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % limit.max(1)
    }
}

fn damage(bytes: &mut Vec<u8>, dice: &mut Dice) {
    for _ in 0..=dice.below(4) {
        let at = dice.below(bytes.len());
        match dice.below(6) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, dice.below(256) as u8),
            2 => drop(bytes.splice(at..at, b"*99999999\r\n".iter().copied())),
            3 => drop(bytes.splice(at..at, b"\r\n$-1\r\n".iter().copied())),
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = [b'0', b'9', b'-', b'*', b'$', b'\r', b'\n', b':', 0xff][dice.below(9)];
                }
            }
        }
    }
}

/// Every parser takes every reply, whatever it was the answer to.
fn parse_with_everything(reply: &Reply) {
    if let Some(text) = reply.text() {
        let at = crate::model::Timestamp(0);
        let _ = (info::server_view(text, Some(reply), at, 0), info::cached_node(text, 0), info::tilt(text));
        let _ = settings::largest_output(text);
    }
    let _ = (peer_role(reply), sentinel::group_names(reply), reply.unfit("x"));
    let salt = crate::secrets::Salt([0; 16]);
    let _ = settings::settings(vec![reply.clone(); 8], crate::model::Timestamp(0), &salt);
    let _ = settings::limits(vec![reply.clone(); 5], Some(reply), crate::model::Timestamp(0));
    let answers = sentinel::Answers {
        myid: reply,
        master: reply,
        replicas: reply,
        ckquorum: reply,
        info: reply,
        info_cache: reply,
    };
    let _ = sentinel::says(&answers, crate::model::Timestamp(0), 0);
}

#[test]
fn damaged_replies_never_panic_and_stay_within_bounds() {
    let mut dice = Dice(0x5EED);
    let captures = captures();
    let (mut read, mut refused, mut waiting) = (0, 0, 0);
    for round in 0..20_000 {
        let (_, original) = &captures[round % captures.len()];
        let mut bytes = original.clone();
        damage(&mut bytes, &mut dice);
        let mut decoder = Decoder::new(CAP);
        let mut end = 0;
        loop {
            end = (end + 1 + dice.below(8192)).min(bytes.len());
            match decoder.advance(&bytes[..end]) {
                Ok(Some((reply, length))) => {
                    assert!(length <= end);
                    parse_with_everything(&reply);
                    read += 1;
                    break;
                }
                Ok(None) if end < bytes.len() => {}
                Ok(None) => {
                    waiting += 1;
                    break;
                }
                Err(_) => {
                    refused += 1;
                    break;
                }
            }
            let held: usize = decoder.open.iter().map(|(_, items)| items.capacity()).sum();
            assert!(held <= 2 * end + 64, "{held} elements held after {end} bytes");
        }
    }
    assert!(read > 1000 && refused > 1000 && waiting > 1000, "read {read}, refused {refused}, waiting {waiting}");
}
