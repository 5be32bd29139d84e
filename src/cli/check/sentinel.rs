//! A group's Sentinels, each by itself: reached, logged in, knows the group, allowed what relinkd needs. Then together:
//! is a majority here, do they agree, is any missing in the configuration?

use super::super::{Exit, once};
use super::instance::WITHIN;
use super::permission::{self, Account, Need, cli_at};
use super::report::{Section, exit_of};
use crate::daemon::Watched;
use crate::decide::{Mode, Policy};
use crate::model::evidence::{Missing, Reading, SentinelSays};
use crate::model::remedy::Remedy;
use crate::model::{Endpoint, tame};
use crate::wire::reply::Reply;
use crate::wire::reply::sentinel::{Answers, group_names, is_unknown_group, says};
use crate::wire::{Dial, Reader, WireError, all};

/// What one Sentinel told.
struct Told {
    says: Option<SentinelSays>,
    /// The other Sentinels that it knows.
    others: Vec<Endpoint>,
    lines: Section,
}

pub async fn check(watched: &Watched, policy: &Policy) -> Section {
    let group = watched.group_name().unwrap_or_default();
    let dials = watched.dials().await.sentinels;
    let mode = policy.of(Remedy::RequestFailover).mode;
    let told = all(dials.iter().map(|dial| ask(dial, group, mode))).await;
    let mut section = Section::new(format!("group {group}"));
    let mut views = Vec::new();
    let mut known: Vec<Endpoint> = Vec::new();
    for one in told {
        section.lines.extend(one.lines.lines);
        known.extend(one.others);
        views.extend(one.says);
    }
    let configured = watched.group.as_ref().map_or(&[][..], |(_, settings)| settings.sentinels.as_slice());
    together(&mut section, &views, configured, known);
    section
}

async fn ask(dial: &Dial, group: &str, mode: Mode) -> Told {
    let mut told = Told { says: None, others: Vec::new(), lines: Section::new("") };
    let what = dial.address.to_string();
    if let Err(error) = walk(dial, group, mode, &mut told).await {
        let why = Missing::from(&error);
        let next = match exit_of(&why) {
            Exit::Permission => "correct sentinel_user and sentinel_password in the configuration, or on the Sentinel",
            _ => "systemctl status redis-sentinel   # on its host; and the firewall between",
        };
        told.lines.problem(exit_of(&why), &what, error.to_string(), [next.to_owned()]);
    }
    // Which Sentinel a line speaks of.
    for line in &mut told.lines.lines {
        if line.what != what {
            line.what = format!("{what} {}", line.what);
        }
    }
    told
}

async fn walk(dial: &Dial, group: &str, mode: Mode, told: &mut Told) -> Result<(), WireError> {
    let mut reader = Reader::connect(dial, WITHIN).await?;
    let account = Account { cli: cli_at("redis-cli", &dial.address), user: &dial.user };
    let replies = reader
        .ask_all(
            &[
                &["SENTINEL", "MASTER", group],
                &["SENTINEL", "MYID"],
                &["SENTINEL", "REPLICAS", group],
                &["SENTINEL", "CKQUORUM", group],
                &["INFO", "sentinel"],
                &["SENTINEL", "SENTINELS", group],
                &["SENTINEL", "MASTERS"],
            ],
            WITHIN,
        )
        .await?;
    let [master, myid, replicas, ckquorum, info, sentinels, masters] = replies.as_slice() else {
        return Err(WireError::Closed);
    };
    match master {
        unknown if is_unknown_group(unknown) => {
            unknown_group(&mut told.lines, group, masters);
            return Ok(());
        }
        Reply::Error { code, text } if code == "NOAUTH" => {
            return Err(WireError::Denied { code: code.clone(), text: tame(text, 120) });
        }
        _ => {}
    }
    let failover = (mode != Mode::Observe).then_some(Remedy::RequestFailover);
    let reads = [
        Need::new(&["SENTINEL", "MASTER", group], "+sentinel|master", true).serving(failover),
        Need::new(&["SENTINEL", "REPLICAS", group], "+sentinel|replicas", true).serving(failover),
        Need::new(&["SENTINEL", "CKQUORUM", group], "+sentinel|ckquorum", true).serving(failover),
        Need::new(&["SENTINEL", "MYID"], "+sentinel|myid", false).serving(failover),
        Need::new(&["SENTINEL", "INFO-CACHE", group], "+sentinel|info-cache", false).serving(failover),
        Need::new(&["INFO", "sentinel"], "+info", false).serving(failover),
        Need::new(&["CLIENT", "SETNAME", "relinkd"], "+client|setname", false),
    ];
    let answers = Answers { myid, master, replicas, ckquorum, info, info_cache: &Reply::Nil };
    match says(&answers, once::now(), 0) {
        Ok(says) => {
            state(&mut told.lines, &says);
            told.says = Some(says);
        }
        Err(Missing::Denied(_)) => {} // told with its rule below
        Err(why) => told.lines.problem(exit_of(&why), "answers", why.to_string(), []),
    }
    told.others = sentinels.items().iter().filter_map(address).collect();
    permission::try_reads(&mut told.lines, &mut reader, &account, &reads, WITHIN).await;
    if mode != Mode::Observe {
        let need = Need::new(&["SENTINEL", "FAILOVER", group], "+sentinel|failover", mode == Mode::Auto);
        let needs = [need.serving(failover)];
        permission::dry_run(&mut told.lines, &mut reader, &account, &needs, WITHIN).await;
    }
    listen(dial, &mut told.lines, &account).await
}

fn state(lines: &mut Section, says: &SentinelSays) {
    let flags = ["o_down", "s_down", "disconnected"].into_iter().find(|flag| says.flags.contains(*flag));
    match (&says.tilt, flags) {
        (Reading::Seen(true), _) => lines.warn("state", "it is in TILT: its clock jumped, and it does nothing", []),
        (_, Some(flag)) => {
            lines.warn("state", format!("it holds the primary {} to be {flag}", says.primary), []);
        }
        _ => lines.ok("state", format!("names {} as the primary", says.primary)),
    }
    match &says.ckquorum {
        Reading::Seen(quorum) if !quorum.ok => {
            lines.problem(Exit::Fault, "quorum", quorum.text.clone(), []);
        }
        _ => {}
    }
}

fn unknown_group(lines: &mut Section, group: &str, masters: &Reply) {
    let mut names = group_names(masters);
    names.sort_by_key(|name| strsim::damerau_levenshtein(name, group));
    let known = match names.as_slice() {
        [] => "it watches no group".to_owned(),
        names => format!("it knows {}", tame(&names.join(", "), 200)),
    };
    let next = names.first().map_or_else(
        || "SENTINEL MONITOR on it, if it shall watch this group".to_owned(),
        |near| format!("call the section [group.{}], and so each replica's group", tame(near, 64)),
    );
    lines.problem(Exit::Fault, "group", format!("knows no group {group:?}; {known}"), [next]);
}

/// The subscription is what makes relinkd quick; a Sentinel's ACL grants channels one by one.
async fn listen(dial: &Dial, lines: &mut Section, account: &Account<'_>) -> Result<(), WireError> {
    let reader = Reader::connect(dial, WITHIN).await?;
    match reader.psubscribe(&["*"], WITHIN).await {
        Ok(_) => lines.ok("may listen", "to every channel"),
        Err(WireError::Denied { code, .. }) if code == "NOPERM" => {
            let reader = Reader::connect(dial, WITHIN).await?;
            match reader.subscribe(crate::watch::sentinel::KNOWN, WITHIN).await {
                Ok(_) => lines.ok("may listen", "to every channel that relinkd knows"),
                Err(WireError::Denied { code, .. }) if code == "NOPERM" => lines.warn(
                    "may listen",
                    "not to all of its events: failovers are noticed later, by asking",
                    [account_grant(account)],
                ),
                Err(error) => return Err(error),
            }
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

fn account_grant(account: &Account<'_>) -> String {
    let user = if account.user.is_empty() { "default" } else { account.user };
    format!("{} ACL SETUSER {user} +subscribe +psubscribe '&*'", account.cli)
}

fn together(section: &mut Section, views: &[SentinelSays], configured: &[Endpoint], mut known: Vec<Endpoint>) {
    let count = views.iter().map(|says| says.others as usize + 1).max().unwrap_or(0).max(configured.len());
    let need = count / 2 + 1;
    match views.len() >= need {
        true => section.ok("majority", format!("{} of {count} Sentinels answer, {need} are needed", views.len())),
        false => section.problem(
            Exit::Unreachable,
            "majority",
            format!(
                "{} of {count} Sentinels answer, {need} are needed: relinkd will not act on their word",
                views.len()
            ),
            [],
        ),
    }
    let first = views.first().map(|says| &says.primary);
    if let Some(other) = views.iter().find(|says| Some(&says.primary) != first) {
        let first = first.map(ToString::to_string).unwrap_or_default();
        section.problem(
            Exit::Fault,
            "agreement",
            format!("one Sentinel names {first} as the primary, another one {}", other.primary),
            ["wait for a failover to end; if it stays so: SENTINEL MASTER on each".to_owned()],
        );
    }
    if count > configured.len() {
        known.sort();
        known.dedup();
        known.retain(|endpoint| !configured.contains(endpoint));
        let named: Vec<String> = known.iter().map(|endpoint| format!("\"{endpoint}\"")).collect();
        section.warn(
            "completeness",
            format!("{} Sentinels are configured, and they know of {count}", configured.len()),
            [format!("add to sentinels what is missing; not listed so far: {}", named.join(", "))],
        );
    }
}

/// `ip` and `port` out of one of SENTINEL SENTINELS' flat lists.
fn address(reply: &Reply) -> Option<Endpoint> {
    let items = reply.items();
    let field = |name: &str| {
        items.chunks_exact(2).find_map(|pair| match pair {
            [key, value] if key.text() == Some(name) => value.text(),
            _ => None,
        })
    };
    Some(Endpoint::new(field("ip")?, field("port")?.parse().ok()?))
}
