#!/usr/bin/env bash
# The checks, as root inside the container that tests/systemd/run boots. Prints a plan, then one `ok` or `not ok` line
# a check, with what was seen after a `#` below a check that failed.
#
# A primary on 6379, its replica on 6380, one Sentinel. relinkd watches the replica. Every password holds the word
# "canary", so that one search tells whether any of them leaked.

# shellcheck disable=SC2317 # the functions that `check` is given by name
set -uo pipefail

readonly old='canary-old-5d0c' new='canary-new-8e41' replica_password='canary-replica-77aa'
readonly sentinel_password='canary-sentinel-c19e' monitor_password='canary-monitor-20fb'
readonly config=/etc/relinkd/config.toml
readonly good_config=/test/config.good
readonly results=/test/results
primary_password=$old

# ---- words of the checks -----------------------------------------------------------------------------------------

# check NAME COMMAND…: one line of the result.
check() {
    local name=$1 output
    shift
    if output=$("$@" 2>&1); then
        printf 'ok %s\n' "$name"
    else
        printf 'not ok %s\n' "$name"
        printf '%s\n' "$output" | tail -n 15 | sed 's/^/#   /'
    fi
}

# within SECONDS COMMAND…: true as soon as the command is.
within() {
    local until=$((SECONDS + $1)) output
    shift
    until output=$("$@" 2>&1); do
        [ "$SECONDS" -lt "$until" ] || { printf '%s\n' "$output"; return 1; }
        sleep 0.05
    done
}

show() { systemctl show --value --property="$1" relinkd.service; }
same() { [ "$1" = "$2" ] || { printf 'saw "%s", expected "%s"\n' "$1" "$2"; return 1; }; }
fails() { ! "$@"; }

primary() { REDISCLI_AUTH=$primary_password redis-cli -p 6379 "$@"; }
replica() { REDISCLI_AUTH=$replica_password redis-cli -p 6380 "$@"; }
link_is_up() { replica info replication | tr -d '\r' | grep -x 'master_link_status:up'; }
masterauth_is() { same "$(replica config get masterauth | tail -n 1)" "$1"; }
of_process() { awk -v key="$1:" '$1 == key { $1 = ""; print substr($0, 2) }' "/proc/$(relinkd_pid)/status"; }
relinkd_pid() { show MainPID; }
is_active() { systemctl is-active relinkd.service; }
journal() { journalctl --no-pager --output=cat "$@"; }

# ---- the group ---------------------------------------------------------------------------------------------------

redis_config() {
    local name=$1 port=$2 password=$3
    install -d -o redis -g redis "/var/lib/redis/$name"
    cat >"/etc/redis/redis-$name.conf" <<CONF
bind 127.0.0.1
port $port
dir /var/lib/redis/$name
logfile ""
save ""
repl-diskless-sync-delay 0
requirepass $password
masterauth $old
user monitor on >$monitor_password allchannels +multi +slaveof +ping +exec +subscribe +config|rewrite +role +publish +info +client|setname +client|kill +script|kill
CONF
}

start_group() {
    redis_config primary 6379 "$old"
    redis_config replica 6380 "$replica_password"
    echo 'replicaof 127.0.0.1 6379' >>/etc/redis/redis-replica.conf
    cat >/etc/redis/sentinel.conf <<CONF
bind 127.0.0.1
port 26379
dir /var/lib/redis
logfile ""
requirepass $sentinel_password
sentinel monitor mymaster 127.0.0.1 6379 1
sentinel auth-user mymaster monitor
sentinel auth-pass mymaster $monitor_password
sentinel down-after-milliseconds mymaster 5000
CONF
    chown redis:redis /etc/redis/*.conf
    chmod 0640 /etc/redis/*.conf
    systemctl start redis-server@primary.service redis-server@replica.service redis-sentinel.service
}

write_config() {
    cat >"$config" <<'CONF'
[agent]
host = "db-21"
state_dir = "/var/lib/relinkd"
run_dir = "/run/relinkd"
log_level = "debug"

[group.mymaster]
sentinels = ["127.0.0.1:26379"]
sentinel_password = { credential = "sentinel-password" }
masterauth = { credential = "masterauth" }

[replica.cache]
address = "127.0.0.1:6380"
group = "mymaster"
password = { credential = "replica-password" }
log = "journal:redis-server@replica.service"
CONF
    chown root:relinkd "$config"
    chmod 0640 "$config"
}

# The names of the secrets are the unit's business, so an administrator's drop-in adds them.
write_credentials() {
    local name
    printf '%s' "$old" >/etc/relinkd/credentials/masterauth
    printf '%s' "$replica_password" >/etc/relinkd/credentials/replica-password
    printf '%s' "$sentinel_password" >/etc/relinkd/credentials/sentinel-password
    chmod 0600 /etc/relinkd/credentials/*
    install -d /etc/systemd/system/relinkd.service.d
    {
        echo '[Service]'
        for name in masterauth replica-password sentinel-password; do
            echo "LoadCredential=$name:/etc/relinkd/credentials/$name"
        done
    } >/etc/systemd/system/relinkd.service.d/credentials.conf
    systemctl daemon-reload
}

# ---- the checks --------------------------------------------------------------------------------------------------

installation() {
    check 'sysusers makes the user, without a login' user_is_made
    check 'tmpfiles makes /etc/relinkd, which root writes and relinkd reads' directory_is_made
    start_group
    check 'primary, replica and Sentinel run as units' \
        systemctl is-active redis-server@primary.service redis-server@replica.service redis-sentinel.service
    check 'the link is up before relinkd comes' within 20 link_is_up
    check 'systemd-analyze verify has nothing to say of the unit as shipped' unit_is_clean
    write_config
    write_credentials
    check 'relinkd check --offline accepts the config' relinkd check --offline --config "$config"
    check 'notify test names the command that has the credential, and it works' credential_is_lent
}

user_is_made() { systemd-sysusers && getent passwd relinkd | grep ':/usr/sbin/nologin$'; }
directory_is_made() { systemd-tmpfiles --create && mode_is /etc/relinkd 'root:relinkd 750'; }
mode_is() { same "$(stat -c '%U:%G %a' "$1")" "$2"; }
# This small Debian has no man to look for relinkd(1) with.
unit_is_clean() {
    local said
    said=$(systemd-analyze verify --man=no /usr/lib/systemd/system/relinkd.service 2>&1) && same "$said" ''
}

# Nobody listens there: that the message is not delivered, and no more that nothing can be tried, shows that it was read.
credential_is_lent() {
    local hook=/etc/relinkd/hook.toml said command status=0
    printf 'http://127.0.0.1:9/' >/etc/relinkd/hook-url
    chmod 0600 /etc/relinkd/hook-url
    printf '%s\n' '[replica.cache]' 'address = "127.0.0.1:6380"' \
        '[notify.ops]' 'kind = "webhook"' 'url = { credential = "hook-url" }' >"$hook"
    said=$(relinkd --config "$hook" notify test) || status=$?
    command=$(sed -n 's/^ *systemd-run/systemd-run/p' <<<"$said")
    same "$status" 3 || return 1
    status=0
    said=$($command) || status=$?
    same "$status" 69 && grep -q 'not delivered ops (webhook): no connection' <<<"$said"
    status=$?
    rm /etc/relinkd/hook-url "$hook"
    return "$status"
}

running() {
    local pid
    # Enabled, so that systemd keeps in mind how a run ended.
    check 'the unit can be enabled' systemctl enable --quiet relinkd.service
    check 'it starts, and is ready' systemctl start relinkd.service
    pid=$(relinkd_pid)
    check 'it is active' same "$(show ActiveState)/$(show SubState)" active/running
    check 'its status is a sentence' within 15 status_is_a_sentence
    printf '# status: %s\n' "$(show StatusText)"
    check 'it runs as relinkd' same "$(stat -c %U "/proc/$pid")" relinkd
    check 'it cannot gain privileges' same "$(of_process NoNewPrivs)" 1
    check 'it has no capability in any set' \
        same "$(grep -Ec '^Cap(Inh|Prm|Eff|Bnd|Amb):[[:space:]]0+$' "/proc/$pid/status")" 5
    check 'its system calls are filtered' same "$(of_process Seccomp)" 2
    check 'it may read the journal' in_group systemd-journal
    check 'it may read log files' in_group adm
    check 'its ledger is hidden from others' mode_is /var/lib/relinkd 'relinkd:relinkd 750'
    check 'its control socket is for its group' within 15 mode_is /run/relinkd/control.sock 'relinkd:relinkd 660'
    check 'relinkd status finds all well' within 10 relinkd status --config "$config"
    check 'its HTTP port is ready' within 10 http_says 200 /readyz
    check 'it leaves alone a link that is whole' is_untouched
}

# Stopped and started by its unit, and for a while between the two: no fault, and no incident.
by_its_unit() {
    check 'a restart of its server by its unit' systemctl restart redis-server@replica.service
    check 'the link comes back by itself' within 20 link_is_up
    check 'relinkd finds all well again' within 15 relinkd status --config "$config"
    check 'a stop of its server by its unit' systemctl stop redis-server@replica.service
    check 'relinkd says that it was told to stop, out of the journal' within 10 stop_is_told
    check 'a start of its server by its unit' systemctl start redis-server@replica.service
    check 'the link is back after the stop' within 20 link_is_up
    check 'and relinkd finds all well after it' within 15 relinkd status --config "$config"
    check 'none of it is an incident' no_incident
}

stop_is_told() {
    # Both end with the exit code of a fault.
    local status seen
    status=$(relinkd status --config "$config")
    seen=$(relinkd diagnose cache --config "$config")
    grep replica-down <<<"$status" && grep 'it was told to stop' <<<"$seen" && return
    printf '%s\n' "$status" "$seen"
    return 1
}
no_incident() { same "$(relinkd incidents --json --config "$config" | tr -d ' \n')" '[]'; }

http_says() {
    local line
    exec 3<>/dev/tcp/127.0.0.1/9779 || return 1
    printf 'GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n' "$2" >&3
    read -r line <&3
    exec 3>&-
    [[ $line == "HTTP/1.1 $1 "* ]]
}
status_is_a_sentence() { [ "$(show StatusText | wc -w)" -ge 3 ]; }
in_group() { of_process Groups | tr ' ' '\n' | grep -x "$(getent group "$1" | cut -d: -f3)"; }

# The store first, then the primary: the replica is left with a password that is right no more.
rotation() {
    local changed_at
    printf '%s' "$new" >/etc/relinkd/credentials/masterauth
    check 'a restart takes in the new credential' systemctl restart relinkd.service
    check 'it does not write a password that the primary still refuses' is_untouched
    changed_at=$(date +%s%3N)
    primary config set requirepass "$new" >/dev/null
    primary_password=$new
    primary client kill type replica >/dev/null
    check 'the link heals after only the primary was given a new password' within 20 is_healed
    printf '# healed within %s ms, this script and its polls included\n' "$(($(date +%s%3N) - changed_at))"
    check 'the primary sees its replica again' within 15 replica_is_online
    check 'the new password stands in the config file of the replica' \
        within 15 grep -E "^masterauth \"?$new" /etc/redis/redis-replica.conf
    check 'the journal of the replica tells of a partial resync' within 15 resync_was_partial
    check 'relinkd incidents lists it with its cause' within 15 incident_is_listed
    check 'a reader who is root leaves the ledger to relinkd' same "$(find /var/lib/relinkd ! -user relinkd)" ''
}

is_untouched() { masterauth_is "$old" && link_is_up; }
is_healed() { masterauth_is "$new" && link_is_up; }
replica_is_online() { primary info replication | grep 'state=online'; }
resync_was_partial() {
    journal --unit=redis-server@replica.service | grep 'Successful partial resynchronization with master'
}
# Latent where a look fell between the change of the password and the end of the link.
incident_is_listed() {
    local said
    said=$(relinkd incidents --config "$config")
    grep -E 'auth-(rejected|latent)' <<<"$said" || { printf '%s\n' "$said"; return 1; }
}

reloading() {
    local pid
    pid=$(relinkd_pid)
    cp -p "$config" "$good_config"
    check 'a reload with a good config succeeds' systemctl reload relinkd.service
    break_config
    check 'a reload with a broken config fails' fails systemctl reload relinkd.service
    systemctl kill --kill-whom=main --signal=HUP relinkd.service
    check 'the daemon refuses it too, and names the key' within 10 journal_names_key "_PID=$pid"
    check 'the same process goes on' same "$(show ActiveState) $(relinkd_pid)" "active $pid"
    check 'and with the old config' within 15 relinkd status --config "$good_config"
    cp -p "$good_config" "$config"
    check 'a reload with the mended config succeeds' systemctl reload relinkd.service
}

break_config() { printf '\n[group.other]\nsentinelz = "canary-inline-31d2"\n' >>"$config"; }
journal_names_key() { journal "$@" | grep sentinelz; }

stopping() {
    systemctl stop relinkd.service
    check 'SIGTERM ends it with status 0' \
        same "$(show Result), code $(show ExecMainCode), status $(show ExecMainStatus)" 'success, code 1, status 0'
    check 'within 10 s' stopped_within_us 10000000
    check 'incidents are read without the daemon' incident_is_listed
}

stopped_within_us() { [ $(($(show InactiveEnterTimestampMonotonic) - $(show ActiveExitTimestampMonotonic))) -lt "$1" ]; }

bad_days() {
    local pid
    printf '[Service]\nWatchdogSec=2s\n' >/etc/systemd/system/relinkd.service.d/watchdog.conf
    systemctl daemon-reload
    systemctl stop redis-server@replica.service
    check 'it starts while its server is away' systemctl start relinkd.service
    check 'and stays' is_active
    systemctl start redis-server@replica.service
    pid=$(relinkd_pid)
    kill -STOP "$pid"
    check 'systemd replaces a daemon that hangs' within 30 is_replaced "$pid"
    check 'the new one finds all well' within 20 relinkd status --config "$config"
    systemctl stop relinkd.service
    break_config
    check 'a broken config stops the start' fails systemctl start relinkd.service
    check 'with exit 78, and for good' \
        same "$(show ExecMainStatus) $(show ActiveState) $(show NRestarts)" '78 failed 0'
    cp -p "$good_config" "$config"
}

is_replaced() { [ "$(show NRestarts)" -ge 1 ] && [ "$(relinkd_pid)" != "$1" ] && is_active; }

leaks() {
    check 'no password in the journal of relinkd' journal_is_free_of canary
    check 'no password in the ledger or beside it' fails grep -ra canary /var/lib/relinkd
    check 'no password in what incidents prints' incidents_are_free_of canary
    # 1.4 with a user namespace, in which the control socket could not see who asks.
    check 'systemd-analyze security finds little exposed' \
        systemd-analyze --no-pager --threshold=16 security relinkd.service
    systemd-analyze --no-pager security relinkd.service | tail -n 1 | sed 's/^/# /'
}

journal_is_free_of() {
    journal --output=export --unit=relinkd.service >/test/journal
    [ -s /test/journal ] && fails grep -a "$1" /test/journal
}
incidents_are_free_of() {
    local said
    said=$(relinkd incidents --json --config "$config") && [ -n "$said" ] && fails grep "$1" <<<"$said"
}

printf '1..%s\n' "$(grep -c '^    check ' "$0")"
installation
running
if is_active >/dev/null; then
    by_its_unit
    rotation
    reloading
    stopping
    bad_days
    leaks
else
    echo '# relinkd does not run: the other checks are not tried'
fi
if grep -q '^not ok' "$results"; then
    journal --unit=relinkd.service | tail -n 60 | sed 's/^/# relinkd: /'
fi
exit 0
