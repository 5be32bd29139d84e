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
    /// Remedies that never pass without it.
    serves: Vec<Remedy>,
}

impl Need {
    pub fn new(command: &[&str], rule: &'static str, required: bool) -> Need {
        Need { command: command.iter().map(|&word| word.to_owned()).collect(), rule, required, serves: Vec::new() }
    }

    pub fn serving(self, remedies: impl IntoIterator<Item = Remedy>) -> Need {
        Need { serves: remedies.into_iter().collect(), ..self }
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
    pub fn grant(&self, rules: &[&str]) -> String {
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
    let mode = |remedy| match remedy {
        Remedy::RealignAuth if !has_store => Mode::Observe,
        Remedy::Repoint if !has_group => Mode::Observe,
        _ => policy.of(remedy).mode,
    };
    let (realign, bounce, repoint) = (Remedy::RealignAuth, Remedy::BounceLink, Remedy::Repoint);
    let rewriting: &[Remedy] = if policy.persist == Persist::Rewrite { &[realign, repoint] } else { &[] };
    let wanted: [(&[Remedy], &[&str], _); 5] = [
        (&[realign, bounce], &["MULTI"], "+multi"),
        (&[realign, bounce], &["EXEC"], "+exec"),
        (&[realign, bounce, repoint], &["REPLICAOF", "127.0.0.1", "1"], "+replicaof"),
        (&[realign], &["CONFIG", "SET", "masterauth", "x"], "+config|set"),
        (rewriting, &["CONFIG", "REWRITE"], "+config|rewrite"),
    ];
    let need = |(remedies, command, rule): (&[Remedy], &[&str], _)| {
        let serves: Vec<Remedy> = remedies.iter().copied().filter(|one| mode(*one) != Mode::Observe).collect();
        let required = serves.iter().any(|one| mode(*one) == Mode::Auto);
        (!serves.is_empty()).then(|| Need::new(command, rule, required).serving(serves))
    };
    wanted.into_iter().filter_map(need).collect()
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
    let mut served: Vec<Remedy> = refused.iter().flat_map(|need| need.serves.iter().copied()).collect();
    served.sort_unstable();
    served.dedup();
    let served: Vec<String> = served.iter().map(ToString::to_string).collect();
    let aim = if served.is_empty() { String::new() } else { format!(", needed for {}", served.join(", ")) };
    let text = format!("user {user} lacks {}{aim}", rules.join(" "));
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
