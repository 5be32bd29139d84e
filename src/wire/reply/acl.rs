//! Who may do what, out of ACL and CLIENT LIST.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeSet;

use super::Reply;

/// The users of the connections with which Sentinels command a node: `sentinel-`, eight characters of the id, `-cmd`
/// (Redis 7.0.15, sentinelSetClientName).
pub fn sentinel_users(clients: &str) -> BTreeSet<String> {
    let field = |line: &str, name: &str| {
        line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
    };
    let users = clients.lines().filter_map(|line| {
        let name = field(line, "name")?;
        let commands = name.starts_with("sentinel-") && name.ends_with("-cmd");
        field(line, "user").filter(|user| commands && !user.is_empty())
    });
    users.collect()
}

/// The rule that allows a command which ACL DRYRUN refused with these words: `+config|rewrite`, or, where it is the
/// channel that is refused, `&__sentinel__:hello` (Redis 7.0.15, Valkey 8.0.1: `… to access the 'NAME' channel`).
pub fn right(words: &[&str], refusal: &str) -> String {
    match words {
        ["PUBLISH" | "SUBSCRIBE", channel, ..] if refusal.ends_with(" channel") => format!("&{channel}"),
        [command @ ("CONFIG" | "CLIENT"), sub, ..] => format!("+{command}|{sub}").to_lowercase(),
        [command, ..] => format!("+{command}").to_lowercase(),
        [] => String::new(),
    }
}

/// Whether a user may PSYNC and REPLCONF, out of ACL GETUSER of Redis 6.2, whose rules are in the order in which they
/// act. None where this is no user.
pub fn replicates(reply: &Reply) -> Option<bool> {
    let mut fields = reply.items().chunks(2);
    let rules = fields.find_map(|pair| match pair {
        [name, value] if name.text() == Some("commands") => value.text(),
        _ => None,
    })?;
    let may = |command: &str| {
        let mut may = false;
        for rule in rules.split_whitespace() {
            let (allows, what) = match (rule.strip_prefix('+'), rule.strip_prefix('-')) {
                (Some(what), _) => (true, what),
                (_, Some(what)) => (false, what),
                _ => continue,
            };
            // PSYNC and REPLCONF are in the same three categories (Redis 6.2.14, ACL CAT).
            if matches!(what, "@all" | "@admin" | "@slow" | "@dangerous") || what == command {
                may = allows;
            }
        }
        may
    };
    Some(may("psync") && may("replconf"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentinels_users_are_those_of_their_command_connections() {
        let text = "id=7 addr=1 name=sentinel-0a1b2c3d-pubsub age=3 user=other\n\
                    id=8 addr=2 name=sentinel-0a1b2c3d-cmd age=3 flags=N user=snt lib-name=\n\
                    id=9 addr=3 name= age=3 user=default\n";
        assert_eq!(sentinel_users(text), ["snt".to_owned()].into());
    }

    #[test]
    fn a_refusal_names_the_one_rule_that_is_lacking() {
        for (words, refusal, rule) in [
            (
                &["CONFIG", "REWRITE"][..],
                "User a has no permissions to run the 'config|rewrite' command",
                "+config|rewrite",
            ),
            (&["SLAVEOF", "NO", "ONE"], "This user has no permissions to run the 'slaveof' command", "+slaveof"),
            (&["PUBLISH", "hello", "x"], "This user has no permissions to run the 'publish' command", "+publish"),
            (&["PUBLISH", "hello", "x"], "This user has no permissions to access the 'hello' channel", "&hello"),
            (&["SUBSCRIBE", "hello"], "User b has no permissions to access the 'hello' channel", "&hello"),
        ] {
            assert_eq!(right(words, refusal), rule, "{words:?}: {refusal}");
        }
    }

    #[test]
    fn rules_are_followed_in_their_order() {
        let of = |rules: &str| {
            let words = ["flags", "on", "commands", rules].map(|word| Reply::Text(word.to_owned()));
            replicates(&Reply::List(words.into()))
        };
        for (rules, may) in [
            ("+@all", true),
            ("-@all +psync +replconf +ping", true),
            ("-@all +psync", false),
            ("+@all -@dangerous", false),
            ("+@all -@dangerous +psync +replconf", true),
            ("+@all -psync", false),
        ] {
            assert_eq!(of(rules), Some(may), "{rules}");
        }
        assert_eq!(replicates(&Reply::Nil), None);
    }
}
