//! RESP2, both ways, bounded. Pure: bytes in, replies out.
//!
//! [`Decoder`] takes a reply apart while its bytes come in, reads no byte twice, and allocates nothing that a
//! header merely announces. A peer can make us hold at most the caller's cap of bytes plus one read, and
//! 65,536 elements.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use zeroize::Zeroize;

use super::WireError;
use super::reply::Reply;
use crate::model::tame;

/// What a reply may measure unless the caller says otherwise.
pub const CAP: usize = 1024 * 1024;
/// SENTINEL INFO-CACHE carries the INFO of every node of a group.
pub const CAP_INFO_CACHE: usize = 8 * 1024 * 1024;
/// Replies nest four deep at most (SENTINEL INFO-CACHE).
const MAX_DEPTH: usize = 8;
const MAX_ELEMENTS: usize = 65_536;
/// A status or error line; servers cut theirs far below this.
const MAX_LINE: usize = 64 * 1024;
/// A type byte and a 64-bit number fit in this.
const MAX_HEADER: usize = 32;
/// How much of bytes that are not RESP is shown.
const SHOWN: usize = 64;

/// Appends one command, as an array of bulk strings.
pub fn encode<'a>(parts: impl ExactSizeIterator<Item = &'a [u8]>, out: &mut Buffer) {
    out.append(format!("*{}\r\n", parts.len()).as_bytes());
    for part in parts {
        out.append(format!("${}\r\n", part.len()).as_bytes());
        out.append(part);
        out.append(b"\r\n");
    }
}

/// Bytes that may hold a password: wiped when freed, and when they move to a larger place.
#[derive(Default)]
pub struct Buffer(Vec<u8>);

impl Buffer {
    pub fn append(&mut self, bytes: &[u8]) {
        let needed = self.0.len().saturating_add(bytes.len());
        if needed > self.0.capacity() {
            let mut larger = Vec::with_capacity(needed.max(self.0.capacity().saturating_mul(2)).max(512));
            larger.extend_from_slice(&self.0);
            self.0.zeroize();
            self.0 = larger;
        }
        self.0.extend_from_slice(bytes);
    }

    /// Forgets the first `count` bytes.
    pub fn consume(&mut self, count: usize) {
        let count = count.min(self.0.len());
        let rest = self.0.len() - count;
        self.0.copy_within(count.., 0);
        if let Some(stale) = self.0.get_mut(rest..) {
            stale.zeroize();
        }
        self.0.truncate(rest);
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// Takes one reply apart while its bytes come in. Feed it the same buffer, longer each time.
pub struct Decoder {
    cap: usize,
    /// Everything before this is decoded.
    at: usize,
    /// Where the search for the present line's end goes on.
    searched: usize,
    /// The arrays that are still open: how many elements each lacks, and those it has.
    open: Vec<(usize, Vec<Reply>)>,
    elements: usize,
}

/// What stands at the decoder's place.
enum Token {
    Leaf(Reply),
    Array(usize),
}

impl Decoder {
    pub fn new(cap: usize) -> Decoder {
        Decoder { cap, at: 0, searched: 0, open: Vec::new(), elements: 0 }
    }

    /// The reply and its length when all of it is there, `None` when more bytes are needed.
    pub fn advance(&mut self, bytes: &[u8]) -> Result<Option<(Reply, usize)>, WireError> {
        while let Some((token, next)) = self.token(bytes)? {
            self.at = next;
            self.searched = next;
            self.elements += 1;
            if self.at > self.cap {
                return Err(WireError::TooLarge(self.at));
            }
            if self.elements > MAX_ELEMENTS {
                return Err(WireError::TooLarge(self.elements));
            }
            if let Token::Array(count) = token
                && count > MAX_ELEMENTS
            {
                return Err(WireError::TooLarge(count));
            }
            if matches!(token, Token::Array(1..)) && self.open.len() >= MAX_DEPTH {
                return Err(alien(bytes, 0));
            }
            if let Some(reply) = self.place(token) {
                return Ok(Some((reply, self.at)));
            }
        }
        if bytes.len() > self.cap { Err(WireError::TooLarge(bytes.len())) } else { Ok(None) }
    }

    /// Puts a token where it belongs; gives the whole reply once nothing is open.
    fn place(&mut self, token: Token) -> Option<Reply> {
        let mut reply = match token {
            Token::Leaf(reply) => reply,
            Token::Array(0) => Reply::List(Vec::new()),
            Token::Array(count) => {
                self.open.push((count, Vec::new()));
                return None;
            }
        };
        while let Some((lacking, mut items)) = self.open.pop() {
            items.push(reply);
            if lacking > 1 {
                self.open.push((lacking - 1, items));
                return None;
            }
            reply = Reply::List(items);
        }
        Some(reply)
    }

    /// The token at our place and where the next begins; `None` while bytes of it are missing.
    fn token(&mut self, bytes: &[u8]) -> Result<Option<(Token, usize)>, WireError> {
        let alien = || alien(bytes, self.at);
        let Some(kind) = bytes.get(self.at).copied() else { return Ok(None) };
        let longest = match kind {
            b'+' | b'-' => MAX_LINE,
            b':' | b'$' | b'*' => MAX_HEADER,
            _ => return Err(alien()),
        };
        let Some(end) = line_end(bytes, self.searched.max(self.at)) else {
            return if bytes.len() - self.at > longest {
                Err(alien())
            } else {
                self.searched = bytes.len().saturating_sub(1).max(self.at);
                Ok(None)
            };
        };
        let line = bytes.get(self.at + 1..end).unwrap_or_default();
        let next = end + 2;
        let token = match kind {
            b'+' => Token::Leaf(Reply::Text(text(line))),
            b'-' => Token::Leaf(Reply::error(text(line))),
            b':' => Token::Leaf(Reply::Int(number(line).ok_or_else(alien)?)),
            _ => match (number(line).ok_or_else(alien)?, kind) {
                (-1, _) => Token::Leaf(Reply::Nil),
                (length, b'$') => return self.bulk(bytes, next, usize::try_from(length).map_err(|_| alien())?),
                (count, _) => Token::Array(usize::try_from(count).map_err(|_| alien())?),
            },
        };
        Ok(Some((token, next)))
    }

    fn bulk(&self, bytes: &[u8], start: usize, length: usize) -> Result<Option<(Token, usize)>, WireError> {
        let end = start.saturating_add(length);
        if end > self.cap {
            return Err(WireError::TooLarge(length));
        }
        match (bytes.get(start..end), bytes.get(end..end + 2)) {
            (Some(value), Some(b"\r\n")) => Ok(Some((Token::Leaf(Reply::Text(text(value))), end + 2))),
            (Some(_), Some(_)) => Err(alien(bytes, self.at)),
            _ => Ok(None),
        }
    }
}

fn line_end(bytes: &[u8], from: usize) -> Option<usize> {
    bytes.get(from..)?.windows(2).position(|pair| pair == b"\r\n").map(|offset| from + offset)
}

fn number(line: &[u8]) -> Option<i64> {
    std::str::from_utf8(line).ok()?.parse().ok()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn alien(bytes: &[u8], at: usize) -> WireError {
    let begin = bytes.get(at..).unwrap_or_default();
    let begin = String::from_utf8_lossy(begin.get(..SHOWN).unwrap_or(begin));
    WireError::Protocol(tame(&begin, SHOWN))
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // reads captures
mod tests;
