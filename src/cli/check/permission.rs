//! What relinkd's user may do on a server. What only reads is tried by doing it; what would change something is tried
//! with `ACL DRYRUN` (Redis 7.0, Valkey 7.2), or, where that is not to be had, said to be untried.

use std::time::Duration;

use super::super::Exit;
use super::report::Section;
use crate::decide::{Mode, Persist, Policy};
use crate::model::remedy::Remedy;
use crate::model::{Address, Endpoint, tame};
use crate::wire::Reader;
use crate::wire::reply::Reply;

/// One command that relinkd needs, and the ACL rule that grants it.
pub struct Need {
    pub command: Vec<String>,
    pub rule: &'static str,
    /// Without it relinkd cannot do what the policy says. Otherwise it can do without.
    pub required: bool,
}

impl Need {
    pub fn new(command: &[&str], rule: &'static str, required: bool) -> Need {
        Need { command: command.iter().map(|&word| word.to_owned()).collect(), rule, required }
    }
}

/// Who asks whom.
pub struct Account<'a> {
    /// `redis-cli -h … -p …`, as a person would reach the server.
    pub cli: String,
    /// Empty for the default user.
    pub user: &'a str,
}

impl Account<'_> {
    fn name(&self) -> &str {
        if self.user.is_empty() { "default" } else { self.user }
    }

    /// The exact command that grants these.
    fn grant(&self, rules: &[&str]) -> String {
        // `|` and `&` would mean something to a shell.
        let rules: Vec<String> = rules
            .iter()
            .map(|rule| if rule.contains(['|', '&']) { format!("'{rule}'") } else { (*rule).to_owned() })
            .collect();
        format!(
            "{} ACL SETUSER {} {}   # as an admin; then ACL SAVE, or CONFIG REWRITE where there is no aclfile",
            self.cli,
            self.name(),
            rules.join(" ")
        )
    }
}

/// How a person reaches a server from this host.
pub fn cli_at(cli: &str, address: &Address) -> String {
    match address {
        Address::Tcp(Endpoint { host, port }) => format!("{cli} -h {host} -p {port}"),
        Address::Unix(path) => format!("{cli} -s {}", path.display()),
    }
}

/// What the hands need on a watched instance, as far as the policy lets them act.
pub fn for_acting(policy: &Policy, has_store: bool, has_group: bool) -> Vec<Need> {
    let mode = |remedy, possible: bool| if possible { policy.of(remedy).mode } else { Mode::Observe };
    let realign = mode(Remedy::RealignAuth, has_store);
    let bounce = mode(Remedy::BounceLink, true);
    let repoint = mode(Remedy::Repoint, has_group);
    let rewrite = if policy.persist == Persist::Rewrite { realign.max(repoint) } else { Mode::Observe };
    let wanted = [
        (realign.max(bounce), vec!["MULTI"], "+multi"),
        (realign.max(bounce), vec!["EXEC"], "+exec"),
        (realign.max(bounce).max(repoint), vec!["REPLICAOF", "127.0.0.1", "1"], "+replicaof"),
        (realign, vec!["CONFIG", "SET", "masterauth", "x"], "+config|set"),
        (rewrite, vec!["CONFIG", "REWRITE"], "+config|rewrite"),
    ];
    wanted
        .into_iter()
        .filter(|(mode, ..)| *mode != Mode::Observe)
        .map(|(mode, command, rule)| Need::new(&command, rule, mode == Mode::Auto))
        .collect()
}

/// Tries commands that only read. False when the server asks for a login first: nothing else is worth telling then.
pub async fn try_reads(
    section: &mut Section,
    reader: &mut Reader,
    account: &Account<'_>,
    needs: &[Need],
    within: Duration,
) -> bool {
    let mut refused = Vec::new();
    for need in needs {
        let words: Vec<&str> = need.command.iter().map(String::as_str).collect();
        match reader.ask(&words, within).await {
            Ok(Reply::Error { code, text }) if code == "NOAUTH" => {
                let text = format!("it asks for a password, and relinkd has none for it: {}", tame(&text, 120));
                section.problem(Exit::Permission, "login", text, []);
                return false;
            }
            Ok(Reply::Error { code, .. }) if code == "NOPERM" => refused.push(need),
            Ok(_) => {}
            Err(error) => {
                section.problem(Exit::Unreachable, "may watch", format!("{}: {error}", words.join(" ")), []);
                return true;
            }
        }
    }
    tell(section, "may watch", account, &refused, needs);
    true
}

/// Tries what would change something, without changing anything.
pub async fn dry_run(
    section: &mut Section,
    reader: &mut Reader,
    account: &Account<'_>,
    needs: &[Need],
    within: Duration,
) {
    if needs.is_empty() {
        section.ok("may act", "nothing: the policy lets relinkd change nothing here");
        return;
    }
    let mut refused = Vec::new();
    for need in needs {
        let words: Vec<&str> =
            ["ACL", "DRYRUN", account.name()].into_iter().chain(need.command.iter().map(String::as_str)).collect();
        match reader.ask(&words, within).await {
            Ok(Reply::Text(text)) if text == "OK" => {}
            Ok(Reply::Text(_)) => refused.push(need),
            Ok(Reply::Error { code, .. }) if code == "NOPERM" => {
                let text = "could not be tried: the user may not ask ACL DRYRUN".to_owned();
                let hint = format!("{}, to have it tried", account.grant(&["+acl|dryrun"]));
                section.warn("may act", text, [hint, account.grant(&rules(needs))]);
                return;
            }
            Ok(reply) => {
                let why = reply.unfit("ACL DRYRUN");
                let text = format!("could not be tried: ACL DRYRUN is of Redis 7.0 and Valkey 7.2 ({why})");
                section.warn("may act", text, [format!("{}   # what is needed", account.grant(&rules(needs)))]);
                return;
            }
            Err(error) => {
                section.problem(Exit::Unreachable, "may act", format!("ACL DRYRUN: {error}"), []);
                return;
            }
        }
    }
    tell(section, "may act", account, &refused, needs);
}

fn rules<'a>(needs: impl IntoIterator<Item = &'a Need>) -> Vec<&'a str> {
    needs.into_iter().map(|need| need.rule).collect()
}

fn tell(section: &mut Section, what: &str, account: &Account<'_>, refused: &[&Need], needs: &[Need]) {
    let user = account.name();
    if refused.is_empty() {
        section.ok(what, format!("user {user} has {}", rules(needs).join(" ")));
        return;
    }
    let rules = rules(refused.iter().copied());
    let text = format!("user {user} lacks {}", rules.join(" "));
    match refused.iter().any(|need| need.required) {
        true => section.problem(Exit::Permission, what, text, [account.grant(&rules)]),
        false => section.warn(what, text, [account.grant(&rules)]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_follows_the_policy() {
        let told = |policy: &Policy, store, group| {
            let needs = for_acting(policy, store, group);
            needs
                .iter()
                .map(|need| format!("{}{}", need.rule, if need.required { "" } else { "?" }))
                .collect::<Vec<_>>()
        };
        let mut policy = Policy::default();
        assert_eq!(told(&policy, true, true), ["+multi", "+exec", "+replicaof", "+config|set", "+config|rewrite"]);
        policy.persist = Persist::Runtime;
        assert_eq!(told(&policy, false, false), ["+multi", "+exec", "+replicaof"]);
        for remedy in policy.remedies.values_mut() {
            remedy.mode = Mode::Propose;
        }
        assert_eq!(told(&policy, true, true), ["+multi?", "+exec?", "+replicaof?", "+config|set?"]);
        for remedy in policy.remedies.values_mut() {
            remedy.mode = Mode::Observe;
        }
        assert_eq!(told(&policy, true, true), Vec::<String>::new());
    }

    #[test]
    fn a_grant_can_be_pasted_into_a_shell() {
        let account = Account { cli: "redis-cli -p 6379".to_owned(), user: "relinkd" };
        let line = account.grant(&["+multi", "+config|set", "&*"]);
        assert!(line.starts_with("redis-cli -p 6379 ACL SETUSER relinkd +multi '+config|set' '&*'   #"), "{line}");
    }
}
