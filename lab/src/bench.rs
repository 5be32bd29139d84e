//! How quick and how small relinkd is, beside a floor taken in the same run.
//!
//! Two groups of a primary, a replica and three Sentinels each: one belongs to the oracle, relinkd stands beside the
//! replica of the other. Trials alternate between them, at moments that are spread over the poll's and the server's
//! own periods, so that neither has a quiet machine to itself.
//!
//! What is *not* here: a judgement. The figures are of this machine, at this hour.

use std::fmt::Write as _;
use std::io::{Error, Result, Write};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::figures::{cores, load, ms, quantile, spread};
use crate::group::Group;
use crate::kind::Kind;
use crate::looks;
use crate::scene::Scene;

mod process;
mod trials;

use process::Memory;
use trials::Oracle;

/// An incident is over soon, so that the next trial may begin. Nothing before the link is up depends on these.
const POLICY: &str = "settle = \"100ms\"\n\n[policy.realign-auth]\ncooldown = \"1s\"\nmax_per_hour = 1000\n";
const OBSERVE: &str = "mode = \"observe\"\n";
const PASSWORD: &str = "word";
const SETTLED: Duration = Duration::from_secs(30);
const IDLE: Duration = Duration::from_secs(20);
const FLOOD: Duration = Duration::from_secs(10);
/// Irrational enough against a poll of 100 ms and a retry of 1 s.
const GOLDEN: f64 = 0.618_033_988_75;

pub struct Bench<'a> {
    pub relinkd: &'a Path,
    pub kind: Kind,
    pub trials: usize,
}

pub fn run(bench: &Bench<'_>, out: &mut dyn Write) -> Result<()> {
    head(bench, out)?;
    let oracle = group(bench.kind)?;
    let mut scene = Scene::start(group(bench.kind)?, bench.relinkd, POLICY)?;
    let pid = pid(&mut scene)?;
    let looks = looks::when_all_answer(&scene)?;
    thread::sleep(SETTLED);
    let fresh = process::memory(pid)?;
    let idle = process::processor_percent(pid, IDLE)?;
    let times = alternate(&oracle, &scene, bench.trials)?;
    let used = process::memory(pid)?;
    let flood = flood(&mut scene)?;
    drop((oracle, scene));
    let black_hole = looks::into_a_black_hole(bench.kind, bench.relinkd)?;

    write!(out, "{}", times_table(&times))?;
    writeln!(out, "\nsize and load of relinkd, watching one instance")?;
    writeln!(out, "  {:<44}{}", "memory, 30 s after its start", resident(fresh))?;
    writeln!(out, "  {:<44}{}", format!("memory, {} incidents told by webhook later", bench.trials), resident(used))?;
    writeln!(out, "  {:<44}{idle:.2} % of a core", "processor, idle for 20 s")?;
    writeln!(
        out,
        "  {:<44}{:.2} % of a core, {:.1} looks/s, log at {:.1} MB/s",
        "processor, in a hot reconnect loop for 10 s", flood.percent, flood.looks_per_s, flood.log_mb_per_s
    )?;
    writeln!(out, "\none look at the whole (relinkd diagnose --json)")?;
    writeln!(out, "  {:<44}{}", "when all answer", spread(&looks))?;
    let black_hole = black_hole.map_or_else(|| "skipped: no network namespaces here".to_owned(), |all| spread(&all));
    writeln!(out, "  {:<44}{black_hole}", "when the primary is a black hole")
}

fn head(bench: &Bench<'_>, out: &mut dyn Write) -> Result<()> {
    let version = bench.kind.find().map_err(Error::other)?.version;
    writeln!(out, "make bench, or target/release/lab bench --kind {} --trials {}", bench.kind.code(), bench.trials)?;
    writeln!(out, "{} ({version}), {} cores, load {}", bench.kind, cores(), load())?;
    writeln!(out, "break: CONFIG SET requirepass NEW, CLIENT KILL TYPE replica, at the primary")?;
    writeln!(out, "up:    INFO replication at the replica says master_link_status:up\n")?;
    out.flush()
}

fn group(kind: Kind) -> Result<Group> {
    Group::builder(kind).replicas(1).sentinels(3).password(PASSWORD).start()
}

fn pid(scene: &mut Scene) -> Result<u32> {
    scene.agent.pid().ok_or_else(|| Error::other("relinkd is not running"))
}

#[derive(Default)]
struct Times {
    floor: Vec<Duration>,
    plain: Vec<Duration>,
    relinkd: Vec<Duration>,
    told: Vec<Duration>,
}

fn alternate(oracle: &Group, scene: &Scene, trials: usize) -> Result<Times> {
    let mut times = Times::default();
    for number in 0..trials {
        let phase = |shift: f64| thread::sleep(Duration::from_secs_f64((number as f64 * GOLDEN + shift).fract()));
        phase(0.0);
        times.floor.push(trials::by_oracle(oracle, Oracle::Bounce, number * 2)?);
        phase(0.3);
        let (up, told) = trials::by_relinkd(scene, number)?;
        times.relinkd.push(up);
        times.told.push(told);
        phase(0.6);
        times.plain.push(trials::by_oracle(oracle, Oracle::Plain, number * 2 + 1)?);
    }
    Ok(times)
}

struct Flood {
    percent: f64,
    looks_per_s: f64,
    log_mb_per_s: f64,
}

/// `masterauth` is empty, the replica reconnects without a pause, and relinkd only watches.
fn flood(scene: &mut Scene) -> Result<Flood> {
    scene.restart(OBSERVE)?;
    let pid = pid(scene)?;
    let (replica, primary) = (scene.replica(), scene.group.primary());
    replica.run(&["CONFIG", "SET", "masterauth", ""]).map_err(Error::other)?;
    crate::fault::cut_replicas(primary)?;
    thread::sleep(Duration::from_secs(1));
    // Each look makes one connection to each Sentinel; each of our own questions makes one too.
    let connections = || scene.group.sentinel(0).info("stats", "total_connections_received");
    let count = || connections().and_then(|text| text.parse::<f64>().ok()).unwrap_or_default();
    let log = || std::fs::metadata(replica.log_path()).map(|meta| meta.len());
    let (looks, bytes, began) = (count(), log()?, Instant::now());
    let percent = process::processor_percent(pid, FLOOD)?;
    let seconds = began.elapsed().as_secs_f64();
    Ok(Flood {
        percent,
        looks_per_s: (count() - looks - 1.0).max(0.0) / seconds,
        log_mb_per_s: (log()? - bytes) as f64 / 1e6 / seconds,
    })
}

fn times_table(times: &Times) -> String {
    let floor = median(&times.floor);
    let mut text = format!(
        "{:<46}{:>8}{:>8}{:>8}{:>8}{:>9}\n",
        format!("from break to up, ms, {} trials each", times.floor.len()),
        "min",
        "median",
        "p90",
        "max",
        "x floor"
    );
    for (what, all) in [
        ("floor: an oracle, one transaction with bounce", &times.floor),
        ("an oracle's CONFIG SET alone", &times.plain),
        ("relinkd, poll 100 ms", &times.relinkd),
        ("relinkd, until its message has arrived", &times.told),
    ] {
        let row = [0.0, 0.5, 0.9, 1.0].map(|part| format!("{:>8.1}", ms(quantile(all, part)))).concat();
        let ratio = ms(median(all)) / ms(floor).max(0.001);
        let _ = writeln!(text, "  {what:<44}{row}{ratio:>9.1}");
    }
    text
}

fn resident(memory: Memory) -> String {
    let mib = |kib: u64| kib as f64 / 1024.0;
    format!("{:.1} MiB, at most {:.1} MiB, {} threads", mib(memory.now_kib), mib(memory.most_kib), memory.threads)
}

fn median(all: &[Duration]) -> Duration {
    quantile(all, 0.5)
}
