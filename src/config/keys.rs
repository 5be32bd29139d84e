//! Every key that this version knows, table by table. A key that stands here is read by `check`, and stands in
//! `config.example.toml`; tests hold both.

pub(super) const SECTIONS: &[&str] = &["agent", "group", "replica", "policy", "store", "notify"];

pub(super) const AGENT: &[&str] =
    &["host", "state_dir", "run_dir", "listen", "log_format", "log_level", "ledger_retain", "ledger_max_size"];

pub(super) const GROUP: &[&str] = &[
    "sentinels",
    "sentinel_user",
    "sentinel_password",
    "masteruser",
    "masterauth",
    "tls",
    "observer",
    "admin",
    "sentinel_auth",
];

pub(super) const LOGIN: &[&str] = &["user", "password"];

pub(super) const TLS: &[&str] = &["ca", "cert", "key", "server_name"];

pub(super) const REPLICA: &[&str] = &["address", "group", "user", "password", "tls", "log", "poll"];

/// Beside these, `[policy]` holds a table for each remedy, under its code.
pub(super) const POLICY: &[&str] = &[
    "mode",
    "persist",
    "blip",
    "patience",
    "settle",
    "remind",
    "background",
    "max_attempts",
    "max_failures",
    "max_per_hour",
    "proposal_expires",
    "after_pause",
];

pub(super) const REMEDY: &[&str] = &["mode", "after", "cooldown", "max_per_hour"];

pub(super) const REQUEST_FAILOVER: &[&str] =
    &["mode", "after", "cooldown", "max_per_hour", "max_lag_bytes", "stagger", "allow_live_primary"];

pub(super) const WEBHOOK: &[&str] = &["kind", "url", "secret", "timeout"];

pub(super) const SLACK: &[&str] = &["kind", "url", "timeout"];

/// The stores, each the only key of a secret reference.
pub(super) const STORES: &[&str] = &["file", "credential", "env", "exec", "vault", "aws"];

/// `[store]`: the stores that have to be told where they are.
pub(super) const REMOTE_STORES: &[&str] = &["vault", "aws"];

/// The last four are the ways to log in, of which one has to be there.
pub(super) const VAULT: &[&str] =
    &["address", "namespace", "ca", "timeout", "poll", "token", "approle", "kubernetes", "certificate"];

pub(super) const VAULT_LOGINS: &[&str] = &["token", "approle", "kubernetes", "certificate"];

pub(super) const VAULT_APPROLE: &[&str] = &["role_id", "secret_id", "mount"];

pub(super) const VAULT_KUBERNETES: &[&str] = &["role", "jwt", "mount"];

pub(super) const VAULT_CERTIFICATE: &[&str] = &["cert", "key", "role", "mount"];

pub(super) const AWS: &[&str] =
    &["region", "endpoint", "timeout", "poll", "profile", "access_key_id", "secret_access_key", "session_token"];

/// Each table by an example of its path, with its keys.
pub const TABLES: &[(&str, &[&str])] = &[
    ("", SECTIONS),
    ("agent", AGENT),
    ("group.NAME", GROUP),
    ("group.NAME.observer", LOGIN),
    ("group.NAME.admin", LOGIN),
    ("group.NAME.sentinel_auth", LOGIN),
    ("group.NAME.tls", TLS),
    ("replica.NAME", REPLICA),
    ("replica.NAME.tls", TLS),
    ("policy", POLICY),
    ("policy.realign-auth", REMEDY),
    ("policy.bounce-link", REMEDY),
    ("policy.repoint", REMEDY),
    ("policy.request-failover", REQUEST_FAILOVER),
    ("notify.NAME (kind webhook)", WEBHOOK),
    ("notify.NAME (kind slack)", SLACK),
    ("store", REMOTE_STORES),
    ("store.vault", VAULT),
    ("store.vault.approle", VAULT_APPROLE),
    ("store.vault.kubernetes", VAULT_KUBERNETES),
    ("store.vault.certificate", VAULT_CERTIFICATE),
    ("store.aws", AWS),
    ("secret reference", STORES),
];

/// ` Did you mean ...?` for a word that is not known, or what is.
pub fn nearest(word: &str, known: &[&str]) -> String {
    let best = known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), *candidate))
        .min_by_key(|(distance, _)| *distance);
    match best {
        // Two letters off, or a third of the word: beyond that a guess misleads.
        Some((distance, candidate))
            if distance <= (candidate.len() / 3).max(2).min(candidate.len().saturating_sub(1)) =>
        {
            format!("; did you mean {candidate:?}?")
        }
        _ => format!("; known here: {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_miss_is_guessed_and_a_wild_word_gets_the_list() {
        assert_eq!(nearest("pasword", REPLICA), "; did you mean \"password\"?");
        assert_eq!(nearest("setinels", GROUP), "; did you mean \"sentinels\"?");
        assert_eq!(nearest("ca_file", TLS), "; known here: ca, cert, key, server_name");
        assert_eq!(nearest("", &["a"]), "; known here: a");
        assert_eq!(nearest("x", &[]), "; known here: ");
    }
}
