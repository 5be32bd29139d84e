//! What is known of a node, whoever told it.

use crate::model::evidence::{CachedNode, Flavour, LinkView, ServerView};

/// A node by its own account, or by the newest one that a Sentinel keeps.
pub(super) enum Known<'a> {
    Own(&'a ServerView),
    Told(&'a CachedNode),
}

impl<'a> Known<'a> {
    pub(super) fn build(&self) -> (Flavour, &'a str) {
        match self {
            Known::Own(server) => (server.flavour, &server.version),
            Known::Told(cached) => (cached.flavour, &cached.version),
        }
    }

    /// Redis 7.0 or newer, or any Valkey.
    pub(super) fn is_since_redis_7(&self) -> bool {
        let (flavour, version) = self.build();
        let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        flavour == Flavour::Valkey || major.is_some_and(|major| major >= 7)
    }

    pub(super) fn keys(&self) -> u64 {
        match self {
            Known::Own(server) => server.keys,
            Known::Told(cached) => cached.keys,
        }
    }

    pub(super) fn is_primary(&self) -> bool {
        match self {
            Known::Own(server) => server.role.link().is_none(),
            Known::Told(cached) => cached.is_primary,
        }
    }

    pub(super) fn link_up(&self) -> bool {
        match self {
            Known::Own(server) => server.role.link().is_some_and(|link| link.up),
            Known::Told(cached) => cached.link_up,
        }
    }

    /// A replica that has had no link since its process began, or has replicated nothing.
    pub(super) fn never_synced(&self) -> bool {
        let (down_for_s, offset) = match self {
            Known::Own(server) => match server.role.link() {
                Some(link) => (link.down_for_s, link.offset),
                None => return false,
            },
            Known::Told(cached) => (cached.link_down_for_s, cached.repl_offset),
        };
        !self.is_primary() && !self.link_up() && (down_for_s == Some(-1) || offset <= 1)
    }

    pub(super) fn busy(&self) -> bool {
        match self {
            Known::Own(server) => server.loading || server.role.link().is_some_and(LinkView::in_sync),
            Known::Told(cached) => cached.loading,
        }
    }

    pub(super) fn saves(&self) -> bool {
        match self {
            Known::Own(server) => server.rdb_last_save_ok,
            Known::Told(cached) => cached.rdb_last_save_ok,
        }
    }

    pub(super) fn appends(&self) -> bool {
        match self {
            Known::Own(server) => server.aof_last_write_ok,
            Known::Told(cached) => cached.aof_last_write_ok,
        }
    }

    pub(super) fn priority(&self) -> u32 {
        match self {
            Known::Own(server) => server.priority,
            Known::Told(cached) => cached.priority,
        }
    }

    /// Where it comes from, to stand after what was read.
    pub(super) fn source(&self) -> String {
        match self {
            Known::Own(_) => String::new(),
            Known::Told(cached) => format!(" (a Sentinel's reading, {} s old)", cached.age_ms / 1000),
        }
    }
}
