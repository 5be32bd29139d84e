//! The closed list of commands that a `Reader` sends. None changes data, settings or topology.
//!
//! `SENTINEL IS-MASTER-DOWN-BY-ADDR` is left out on purpose: with a run id it casts a vote
//! (Redis 7.0.15, sentinelCommand → sentinelVoteLeader). `HELLO 3` is left out because we read RESP2.

/// Whether a command, whatever its case, only reads. `SUBSCRIBE` is allowed only where `subscribing`.
pub fn allowed(parts: &[&str], subscribing: bool) -> bool {
    let upper: Vec<String> = parts.iter().map(|part| part.to_ascii_uppercase()).collect();
    let words: Vec<&str> = upper.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["PING" | "INFO" | "AUTH", ..] | ["ROLE" | "HELLO"] | ["HELLO", "2"] => true,
        ["CONFIG", "GET", _, ..] => true,
        ["CLIENT", "SETNAME", _] | ["CLIENT", "LIST", ..] | ["CLIENT", "ID"] => true,
        ["ACL", "WHOAMI" | "LOG"] | ["ACL", "DRYRUN", _, _, ..] | ["ACL", "GETUSER", _] => true,
        ["ACL", "LOG", count] => count.bytes().all(|b| b.is_ascii_digit()),
        ["LATENCY", "LATEST"] => true,
        ["COMMAND", "INFO", _, ..] => true,
        ["SUBSCRIBE" | "PSUBSCRIBE", _, ..] => subscribing,
        ["REPLCONF", "CAPA", "EOF"] => true,
        // An offset that is no number: refused before anything is done
        // (Redis 7.0.15, masterTryPartialResynchronization).
        ["PSYNC", "?", "X"] => true,
        ["SENTINEL", "MASTERS" | "MYID"] => true,
        [
            "SENTINEL",
            "MASTER" | "REPLICAS" | "SLAVES" | "SENTINELS" | "CKQUORUM" | "GET-MASTER-ADDR-BY-NAME" | "INFO-CACHE",
            _,
            ..,
        ] => true,
        _ => false,
    }
}

/// The command without its arguments, for messages: an argument may be a password.
pub fn name(parts: &[&str]) -> String {
    let first = parts.first().copied().unwrap_or("nothing");
    let second = match first.to_ascii_uppercase().as_str() {
        "CONFIG" | "CLIENT" | "ACL" | "LATENCY" | "SENTINEL" => parts.get(1).copied().unwrap_or_default(),
        _ => "",
    };
    crate::model::tame(format!("{first} {second}").trim(), 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(command: &str) -> Vec<&str> {
        command.split(' ').collect()
    }

    #[test]
    fn reads_are_allowed_whatever_their_case() {
        for command in [
            "PING",
            "info",
            "INFO replication",
            "ROLE",
            "AUTH u p",
            "config get dir",
            "CLIENT LIST TYPE replica",
            "ACL LOG",
            "ACL LOG 10",
            "ACL DRYRUN default PSYNC ? -1",
            "ACL GETUSER default",
            "REPLCONF capa eof",
            "PSYNC ? x",
            "SENTINEL CKQUORUM m",
            "sentinel info-cache m",
        ] {
            assert!(allowed(&split(command), false), "{command} was refused");
        }
        assert!(allowed(&["SUBSCRIBE", "+sdown"], true));
    }

    #[test]
    fn what_could_change_anything_is_refused() {
        for command in [
            "SET a b",
            "CONFIG SET masterauth x",
            "CONFIG REWRITE",
            "CONFIG",
            "REPLICAOF NO ONE",
            "PSYNC ? -1",
            "PSYNC x 1",
            "PSYNC ? x FAILOVER",
            "SYNC",
            "REPLCONF listening-port 1",
            "REPLCONF capa eof capa psync2",
            "ACL LOG RESET",
            "ACL SETUSER default on",
            "CLIENT KILL TYPE master",
            "HELLO 3",
            "HELLO 2 AUTH a b",
            "SENTINEL FAILOVER m",
            "SENTINEL SET m quorum 1",
            "SENTINEL RESET *",
            "SENTINEL IS-MASTER-DOWN-BY-ADDR 127.0.0.1 1 0 *",
            "SENTINEL IS-MASTER-DOWN-BY-ADDR 127.0.0.1 1 0 0123456789012345678901234567890123456789",
            "SUBSCRIBE +sdown",
            "LATENCY RESET",
            "EVAL return 0",
            "MULTI",
            "SHUTDOWN",
        ] {
            assert!(!allowed(&split(command), false), "{command} was allowed");
        }
        assert!(!allowed(&[], true));
    }

    #[test]
    fn a_refusal_names_no_argument() {
        assert_eq!(name(&["CONFIG", "SET", "masterauth", "hunter2"]), "CONFIG SET");
        assert_eq!(name(&["AUTH", "hunter2"]), "AUTH");
        assert_eq!(name(&[]), "nothing");
    }
}
