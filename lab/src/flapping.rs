//! A link that drops again and again and is back each time.

use std::io::{Error, Read, Result, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::fault::{Fault, configure, cut_replicas};
use crate::server::Server;
use crate::transfer::Writes;

/// Cuts the replicas' connections at the primary at each turn, until undone.
pub fn cut_again_and_again(primary: &Server, every: Duration) -> Fault {
    at_each_turn(primary, every, cut_replicas)
}

/// The same, and more is written than the smallest backlog holds before anybody is back.
pub fn outrun_again_and_again(primary: &Server, every: Duration) -> Result<Fault> {
    let small = configure(primary, &[("repl-backlog-size", "16384")])?;
    let writes = kept(Writes::start(primary, 10, 1_024, Duration::from_millis(10)));
    Ok(small.and(writes).and(at_each_turn(primary, every, cut_and_write)))
}

/// In one transaction: no replica is back in between.
fn cut_and_write(primary: &Server) -> Result<()> {
    let mut connection = primary.connect().map_err(Error::other)?;
    let mut both = redis::pipe();
    both.atomic().cmd("CLIENT").arg(&["KILL", "TYPE", "replica"]).ignore();
    (0..16).for_each(|key| {
        both.cmd("SET").arg(format!("lab:{key}")).arg("x".repeat(8_192)).ignore();
    });
    both.exec(&mut connection).map_err(Error::other)
}

/// Somebody else resumes the primary's stream and leaves at once, as often as that: a tool, a replica that crashes.
pub fn resume_as_another(primary: &Server, times: usize) -> Result<()> {
    for _ in 0..times {
        let told = |field| primary.info("replication", field).ok_or_else(|| Error::other(format!("no {field}")));
        let (replid, offset) =
            (told("master_replid")?, told("master_repl_offset")?.parse::<u64>().map_err(Error::other)?);
        let mut stream = std::net::TcpStream::connect(primary.endpoint())?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "PSYNC {replid} {}\r\n", offset + 1)?;
        let mut answer = [0; 9];
        stream.read_exact(&mut answer)?;
        if &answer != b"+CONTINUE" {
            return Err(Error::other(format!("PSYNC → {}", String::from_utf8_lossy(&answer))));
        }
    }
    Ok(())
}

fn at_each_turn(primary: &Server, every: Duration, cut: fn(&Server) -> Result<()>) -> Fault {
    let stop = Arc::new(AtomicBool::new(false));
    let (server, ended) = (primary.clone(), Arc::clone(&stop));
    let thread = thread::spawn(move || {
        let mut due = Instant::now();
        while !ended.load(Ordering::Relaxed) {
            if Instant::now() >= due {
                // A primary that is busy is cut at the next turn.
                let _ = cut(&server);
                due = Instant::now() + every;
            }
            thread::sleep(Duration::from_millis(20));
        }
    });
    Fault::new(format!("cuts at {}", primary.address()), move || {
        stop.store(true, Ordering::Relaxed);
        thread.join().map_err(|_| Error::other("the cutter panicked"))
    })
}

/// Each value that is written is more than may wait for a replica, so the primary cuts the link for it.
pub fn values_beyond_the_output_buffer(primary: &Server, every: Duration) -> Result<Fault> {
    let tight = [("repl-backlog-size", "16384"), ("client-output-buffer-limit", "replica 1mb 0 0")];
    let tight = configure(primary, &tight)?;
    Ok(tight.and(kept(Writes::start(primary, 1, 8 << 20, every))))
}

fn kept(writes: Writes) -> Fault {
    Fault::new("writes", move || {
        drop(writes);
        Ok(())
    })
}
