//! Who is at the other end of the control socket: what the kernel says of them, and whether they may change anything.
//!
//! The socket's mode lets only its owner and its group connect. This asks once more, at each question that changes
//! something, so that a socket that somebody opened wider does not hand out relinkd's hands. The groups are those of
//! the process that connected; where /proc does not show them, the host's own group file is asked.

use std::os::fd::AsFd;

use crate::model::people::Actor;
use crate::model::tame;

/// The user behind a connection, as the kernel noted them when it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    uid: u32,
    gid: u32,
    pid: i32,
}

impl Peer {
    /// SO_PEERCRED.
    pub fn of(stream: &impl AsFd) -> std::io::Result<Peer> {
        let known = rustix::net::sockopt::socket_peercred(stream)?;
        Ok(Peer { uid: known.uid.as_raw(), gid: known.gid.as_raw(), pid: known.pid.as_raw_nonzero().get() })
    }

    /// Root, the daemon's own user, and the members of the socket's group may.
    pub fn may_change(&self, group: u32) -> bool {
        let own = rustix::process::geteuid().as_raw();
        self.uid == 0 || self.uid == own || self.gid == group || self.groups().contains(&group)
    }

    /// `claimed`: what sudo told the client; it counts for root only, who could lie in any case.
    pub fn actor(&self, claimed: Option<&str>) -> Actor {
        let sudo = claimed.filter(|name| self.uid == 0 && !name.is_empty()).map(|name| tame(name, 64));
        Actor { uid: self.uid, name: self.name().unwrap_or_else(|| format!("uid {}", self.uid)), sudo }
    }

    fn name(&self) -> Option<String> {
        let users = std::fs::read_to_string("/etc/passwd").ok()?;
        user_of(&users, self.uid).map(|name| tame(name, 64))
    }

    fn groups(&self) -> Vec<u32> {
        // The number of a process comes again, and a process may become another user's: the uid has to be the same.
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        if let Some(groups) = groups_in(&status, self.uid) {
            return groups;
        }
        let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
        self.name().map(|name| groups_of(&groups, &name)).unwrap_or_default()
    }
}

fn user_of(passwd: &str, uid: u32) -> Option<&str> {
    let line = passwd.lines().find(|line| line.split(':').nth(2).is_some_and(|it| it.parse() == Ok(uid)))?;
    line.split(':').next()
}

/// The supplementary groups of /proc/PID/status, if all its uids are this one.
fn groups_in(status: &str, uid: u32) -> Option<Vec<u32>> {
    let numbers = |key: &str| -> Option<Vec<u32>> {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().map(|word| word.parse().ok()).collect()
    };
    numbers("Uid:")?.iter().all(|it| *it == uid).then_some(())?;
    numbers("Groups:")
}

/// The groups of /etc/group that list a user.
fn groups_of(group: &str, user: &str) -> Vec<u32> {
    let of_line = |line: &str| {
        let mut fields = line.split(':').skip(2);
        let gid = fields.next()?.parse().ok()?;
        fields.next()?.split(',').any(|member| member == user).then_some(gid)
    };
    group.lines().filter_map(of_line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str =
        "Name:\trelinkd\nUid:\t1000\t1000\t1000\t1000\nGid:\t1000\t1000\t1000\t1000\nGroups:\t27 990 \n";

    #[test]
    fn the_groups_of_a_process_count_only_while_it_is_the_same_users() {
        assert_eq!(groups_in(STATUS, 1000), Some(vec![27, 990]));
        assert_eq!(groups_in(STATUS, 0), None);
        let risen = STATUS.replace("1000\t1000\t1000\t1000\nGid", "1000\t0\t0\t0\nGid");
        assert_eq!(groups_in(&risen, 1000), None, "a program that became root is not its caller");
        assert_eq!(groups_in("", 1000), None);
    }

    #[test]
    fn users_and_members_are_read_from_the_hosts_files() {
        let passwd = "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/srv/alice:/bin/sh\nbroken\n";
        assert_eq!((user_of(passwd, 1000), user_of(passwd, 7)), (Some("alice"), None));
        let group = "relinkd:x:990:bob,alice\nsudo:x:27:bob\nalice:x:1000:\nbroken:x\n";
        assert_eq!(groups_of(group, "alice"), [990]);
        assert_eq!(groups_of(group, "ali"), [0_u32; 0]);
    }

    #[test]
    fn root_the_daemon_and_the_group_may_and_others_may_not() {
        let own = rustix::process::geteuid().as_raw();
        // No process has this number.
        let peer = |uid, gid| Peer { uid, gid, pid: i32::MAX };
        assert!(peer(0, 0).may_change(990) && peer(own, 1).may_change(990) && peer(4242, 990).may_change(990));
        assert!(!peer(4242, 4242).may_change(990));
        let claims = |uid| peer(uid, 1).actor(Some("alice\u{1b}")).sudo;
        assert_eq!((claims(0).as_deref(), claims(4242)), (Some("alice "), None));
    }
}
