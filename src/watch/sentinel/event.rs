//! What Sentinel publishes, taken apart. Pure.
//!
//! The channel is the event's name. Most payloads name an instance, as `sentinel.c` writes `%@` (sentinelEvent):
//!
//! ```text
//! master NAME IP PORT
//! slave  NAME IP PORT @ GROUP IP PORT
//! ```
//!
//! `+switch-master` begins with the group's name, and a few events speak of the Sentinel itself and name no group.
//! Redis 6.2 to 8.0 and Valkey 7.2 to 9.0 publish the same words.

use crate::model::event::SentinelEvent;
use crate::model::{Endpoint, tame};

/// How much of a payload is kept.
const TEXT: usize = 300;

/// The events that a Sentinel publishes, those that a look hangs on first. One that is not here is taken all the same.
pub const KNOWN: &[&str] = &[
    "+switch-master",
    "+sdown",
    "-sdown",
    "+odown",
    "-odown",
    "+tilt",
    "-tilt",
    "+try-failover",
    "+elected-leader",
    "+failover-state-select-slave",
    "+selected-slave",
    "+failover-state-send-slaveof-noone",
    "+failover-state-wait-promotion",
    "+promoted-slave",
    "+failover-state-reconf-slaves",
    "+slave-reconf-sent",
    "+slave-reconf-sent-be",
    "+slave-reconf-inprog",
    "+slave-reconf-done",
    "-slave-reconf-sent-timeout",
    "+failover-end",
    "+failover-end-for-timeout",
    "-failover-abort-not-elected",
    "-failover-abort-no-good-slave",
    "-failover-abort-slave-timeout",
    "-failover-abort-master-timeout", // Valkey 9.0
    "+config-update-from",
    "+convert-to-slave",
    "+fix-slave-config",
    "+role-change",
    "-role-change",
    "+reboot",
    "+slave",
    "+sentinel",
    "+sentinel-address-switch",
    "+sentinel-address-update",
    "+sentinel-invalid-addr",
    "+reset-master",
    "+monitor",
    "-monitor",
    "+set",
    "+new-epoch",
    "+vote-for-leader",
    "-script-error",
    "-script-timeout",
];

/// One message of a subscription as an event.
pub fn parse_event(sentinel: &Endpoint, channel: &str, payload: &str) -> SentinelEvent {
    let group = group(channel, payload).map(|name| tame(name, TEXT));
    SentinelEvent { sentinel: sentinel.clone(), name: tame(channel, 64), group, text: tame(payload, TEXT) }
}

fn group<'a>(channel: &str, payload: &'a str) -> Option<&'a str> {
    let mut words = payload.split(' ');
    let first = words.next().filter(|word| !word.is_empty())?;
    if channel == "+switch-master" {
        return Some(first);
    }
    match first {
        "master" => words.next(),
        // The instance's own name comes first, and may be anything that Sentinel took for one.
        "slave" | "sentinel" => words.skip(3).skip_while(|word| *word != "@").nth(1),
        _ => None,
    }
    .filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASTER: &str = "master mymaster 127.0.0.1 6379";
    const SLAVE: &str = "slave 127.0.0.1:6380 127.0.0.1 6380 @ mymaster 127.0.0.1 6379";
    const SENTINEL: &str =
        "sentinel 0123456789abcdef0123456789abcdef01234567 127.0.0.1 26379 @ mymaster 127.0.0.1 6379";

    fn group_of(channel: &str, payload: &str) -> Option<String> {
        let event = parse_event(&Endpoint::new("127.0.0.1", 26379), channel, payload);
        assert_eq!((event.name.as_str(), event.text.as_str()), (channel, payload));
        event.group
    }

    #[test]
    fn every_payload_of_sentinel_names_its_group() {
        let mine = Some("mymaster".to_owned());
        for name in ["+sdown", "-sdown", "+role-change", "-role-change", "+reboot"] {
            for instance in [MASTER, SLAVE, SENTINEL] {
                assert_eq!(group_of(name, instance), mine, "{name} {instance}");
            }
        }
        for (name, rest) in [
            ("+odown", " #quorum 2/2"),
            ("-odown", ""),
            ("+try-failover", ""),
            ("+elected-leader", ""),
            ("+failover-state-select-slave", ""),
            ("+failover-state-reconf-slaves", ""),
            ("+failover-end", ""),
            ("+failover-end-for-timeout", ""),
            ("-failover-abort-not-elected", ""),
            ("-failover-abort-no-good-slave", ""),
            ("-failover-abort-slave-timeout", ""),
            ("-failover-abort-master-timeout", ""),
            ("+sentinel-address-switch", " ip 10.0.0.9 port 26379 for 0123456789abcdef"),
            ("+reset-master", ""),
            ("+monitor", " quorum 2"),
            ("-monitor", ""),
            ("+set", " auth-pass ******"),
        ] {
            assert_eq!(group_of(name, &format!("{MASTER}{rest}")), mine, "{name}");
        }
        for name in [
            "+selected-slave",
            "+failover-state-send-slaveof-noone",
            "+failover-state-wait-promotion",
            "+promoted-slave",
            "+slave-reconf-sent",
            "+slave-reconf-sent-be",
            "+slave-reconf-inprog",
            "+slave-reconf-done",
            "-slave-reconf-sent-timeout",
            "+slave",
            "+convert-to-slave",
            "+fix-slave-config",
        ] {
            assert_eq!(group_of(name, SLAVE), mine, "{name}");
        }
        for (name, rest) in [
            ("+config-update-from", ""),
            ("+sentinel", ""),
            ("+sentinel-invalid-addr", ""),
            ("+sentinel-address-update", " 1 additional matching instances"),
        ] {
            assert_eq!(group_of(name, &format!("{SENTINEL}{rest}")), mine, "{name}");
        }
        assert_eq!(group_of("+role-change", &format!("{SLAVE} new reported role is master")), mine);
        assert_eq!(group_of("+switch-master", "mymaster 127.0.0.1 6379 127.0.0.1 6380"), mine);
    }

    #[test]
    fn what_speaks_of_the_sentinel_itself_has_no_group() {
        for (name, payload) in [
            ("+tilt", "#tilt mode entered"),
            ("-tilt", "#tilt mode exited"),
            ("+new-epoch", "12"),
            ("+vote-for-leader", "0123456789abcdef0123456789abcdef01234567 12"),
            ("-script-error", "/usr/local/bin/notify 0 1"),
            ("-script-timeout", "/usr/local/bin/notify 4711"),
        ] {
            assert_eq!(group_of(name, payload), None, "{name}");
        }
    }

    #[test]
    fn an_ipv6_address_is_no_hindrance() {
        assert_eq!(group_of("+sdown", "slave ::1:6380 ::1 6380 @ mymaster ::1 6379").as_deref(), Some("mymaster"));
    }

    #[test]
    fn a_payload_cut_short_is_no_panic() {
        for payload in
            ["", " ", "master", "master ", "slave", "slave a b c", "slave a b c @", "slave a b c @ ", "@ @ @"]
        {
            assert_eq!(group("+sdown", payload), None, "{payload:?}");
        }
        assert_eq!(group("+switch-master", ""), None);
    }

    #[test]
    fn a_payload_cannot_break_a_terminal() {
        let event = parse_event(&Endpoint::new("s", 1), "+x\u{1b}", &"y\n".repeat(9_000));
        assert!(event.text.len() < 400 && !event.text.contains('\n') && event.name == "+x ");
    }
}
