//! What a process costs, as the kernel counts it.

use std::fs;
use std::io::{Error, Result};
use std::thread;
use std::time::{Duration, Instant};

use rustix::param::clock_ticks_per_second;

/// Resident memory now, and at its highest, in KiB.
#[derive(Clone, Copy)]
pub struct Memory {
    pub now_kib: u64,
    pub most_kib: u64,
    pub threads: u64,
}

pub fn memory(pid: u32) -> Result<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let number = |field: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
            .ok_or_else(|| Error::other(format!("/proc/{pid}/status has no {field}")))
    };
    Ok(Memory { now_kib: number("VmRSS")?, most_kib: number("VmHWM")?, threads: number("Threads")? })
}

/// Processor time over `span`, in percent of one core.
pub fn processor_percent(pid: u32, span: Duration) -> Result<f64> {
    let (before, began) = (used(pid)?, Instant::now());
    thread::sleep(span);
    Ok((used(pid)? - before).as_secs_f64() / began.elapsed().as_secs_f64() * 100.0)
}

/// utime and stime of all threads: fields 14 and 15 of `stat`, counted behind the name, which may hold spaces. In
/// ticks of 10 ms; schedstat has nanoseconds, but of one thread only.
fn used(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, behind) = stat.rsplit_once(')').ok_or_else(|| Error::other("stat without a name"))?;
    let ticks: u64 = behind.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(Duration::from_secs_f64(ticks as f64 / clock_ticks_per_second() as f64))
}
