//! From the break to the link that reads up: by relinkd, and by an oracle that knows the instant of the break.
//!
//! The break is a password rotated at the primary and a connection cut. The oracle waits no longer than until the
//! replica's first login has been refused, which is the earliest instant at which anybody could know.

use std::io::{Error, Result};
use std::thread;
use std::time::{Duration, Instant};

use redis::{Connection, Value};

use crate::fault;
use crate::group::Group;
use crate::link::{command, field_of};
use crate::scene::{PATIENCE, Scene};
use crate::server::Server;

/// Between two looks at the replica: fine enough for a floor of three milliseconds, and no load.
const LOOK: Duration = Duration::from_micros(300);

/// What an oracle does about it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Oracle {
    /// CONFIG SET and a bounce in one transaction, as relinkd does it.
    Bounce,
    /// CONFIG SET alone: the server's own next attempt takes it up, once a second.
    Plain,
}

pub fn by_oracle(group: &Group, oracle: Oracle, number: usize) -> Result<Duration> {
    let (primary, replica) = (group.primary(), group.replica(0));
    let password = format!("word-{number}");
    let mut connection = replica.connect().map_err(Error::other)?;
    let (host, port) = primary.endpoint();
    let port = port.to_string();
    let began = break_link(primary, &password)?;
    wait(&mut connection, |link| link.state == "connect" && !link.up)?;
    let set = ["CONFIG", "SET", "masterauth", &password];
    match oracle {
        Oracle::Plain => command(&set).exec(&mut connection).map_err(Error::other)?,
        Oracle::Bounce => {
            let mut all = redis::pipe();
            all.atomic();
            for words in [&set[..], &["REPLICAOF", "127.0.0.1", "1"], &["REPLICAOF", &host, &port]] {
                all.add_command(command(words)).ignore();
            }
            all.exec(&mut connection).map_err(Error::other)?;
        }
    }
    wait(&mut connection, |link| link.up)?;
    Ok(began.elapsed())
}

/// Break to link up, and break to the first message.
pub fn by_relinkd(scene: &Scene, number: usize) -> Result<(Duration, Duration)> {
    let (primary, replica) = (scene.group.primary(), scene.replica());
    let password = format!("word-{number}");
    scene.offer(&password)?;
    let mut connection = replica.connect().map_err(Error::other)?;
    let seen = scene.receiver.requests().len();
    let began = break_link(primary, &password)?;
    wait(&mut connection, |link| !link.up)?;
    wait(&mut connection, |link| link.up)?;
    let up = began.elapsed();
    let over = |requests: &[crate::Request]| {
        requests.iter().skip(seen).filter_map(|request| request.json()).any(|message| message["event"] == "resolved")
    };
    let requests = scene.receiver.wait_until(PATIENCE, over).ok_or_else(|| Error::other("no message came"))?;
    let told = requests.get(seen).map_or(Duration::ZERO, |request| request.at - began);
    Ok((up, told))
}

/// Rotates, and answers with the instant before the connection was cut.
fn break_link(primary: &Server, password: &str) -> Result<Instant> {
    primary.run(&["CONFIG", "SET", "requirepass", password]).map_err(Error::other)?;
    primary.set_admin_password(Some(password));
    let began = Instant::now();
    fault::cut_replicas(primary)?;
    Ok(began)
}

struct Link {
    up: bool,
    /// ROLE's word for it.
    state: String,
}

fn wait(connection: &mut Connection, until: impl Fn(&Link) -> bool) -> Result<()> {
    let patience = Instant::now() + PATIENCE;
    while Instant::now() < patience {
        let mut both = redis::pipe();
        both.cmd("INFO").arg("replication").cmd("ROLE");
        let (info, role): (String, Value) = both.query(connection).map_err(Error::other)?;
        let state = match role {
            Value::Array(parts) => parts.into_iter().nth(3).and_then(|state| redis::from_redis_value(state).ok()),
            _ => None,
        };
        let up = field_of(&info, "master_link_status") == Some("up");
        if until(&Link { up, state: state.unwrap_or_default() }) {
            return Ok(());
        }
        thread::sleep(LOOK);
    }
    Err(Error::other(format!("the link did not change as it should within {PATIENCE:?}")))
}
