# What a developer, CI and an installer run. `make` alone lists it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-builtin-rules --no-print-directory
.DELETE_ON_ERROR:

CARGO ?= cargo

# Where `make install` puts things, and which binary.
PREFIX ?= /usr/local
DESTDIR ?=
RELINKD ?= target/release/relinkd
# Prints the manual page and the completions: where $(RELINKD) is for another machine, one of the same version for this.
RELINKD_HERE ?= $(RELINKD)
# Decides whether `systemctl reload` can wait for the daemon. Packagers name the version they build for.
SYSTEMD_VERSION ?= $(shell systemctl --version 2>/dev/null | sed -n '1s/^systemd \([0-9]*\).*/\1/p')

unit_dir := $(DESTDIR)$(PREFIX)/lib/systemd/system
share_dir := $(DESTDIR)$(PREFIX)/share
doc_dir := $(share_dir)/doc/relinkd
# The files as shipped name /usr.
prefixed := sed -e 's|/usr/bin/|$(PREFIX)/bin/|g' -e 's|/usr/share/|$(PREFIX)/share/|g'

.PHONY: help
help: ## List what there is to make
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 22

.PHONY: setup
setup: ## Install what is missing: build tools, servers, network tools
	@scripts/setup

.PHONY: build
build: ## Build target/release/relinkd
	$(CARGO) build --release --locked

.PHONY: test
test: setup ## Formatting, lints and every test, on real servers and a real systemd too
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	scripts/run-tests

.PHONY: scenarios
scenarios: ## Judge every captured scenario anew, and show which verdicts changed
	UPDATE=1 $(CARGO) test --locked --test scenarios
	git --no-pager diff -U1 --stat --patch -- ':(glob)tests/scenarios/**/expected.txt'

.PHONY: simulate
simulate: ## Many more days of the agent's toy world (SIM_STEPS, SIM_SEED)
	SIM_STEPS=$(or $(SIM_STEPS),3000000) $(CARGO) test --locked --test simulation -- --nocapture

.PHONY: demo
demo: setup lab ## Break a Sentinel group in three ways, and see relinkd heal it
	target/release/lab demo

.PHONY: demo-shell
demo-shell: setup lab ## The same group, left running to play with
	target/release/lab demo --shell

.PHONY: bench
bench: setup lab ## Time from break to healed link, memory and processor time
	target/release/lab bench

.PHONY: rotations
rotations: setup lab ## 50 rotations of a password under load, with and without kills, beside the usual order
	target/release/lab rotations --jobs 2

.PHONY: faults
faults: setup lab ## Inject every fault on every server, and report what relinkd said and when (ARGS: lab help)
	target/release/lab faults $(ARGS)

.PHONY: chaos
chaos: setup lab ## Random trouble on three hosts, with relinkd acting and with it watching: wrong actions, lost writes (40 minutes; ARGS: lab help)
	target/release/lab chaos --rounds 200 --jobs 6 $(ARGS)

.PHONY: lab
lab:
	$(CARGO) build --release --locked --workspace

.PHONY: deny
deny: ## Licences, sources and duplicates of the dependencies (needs cargo-deny)
	$(CARGO) deny --locked check bans licenses sources

.PHONY: install
install: ## Install the binary, the unit, completions and documentation (PREFIX, DESTDIR)
	@test -x '$(RELINKD)' || { echo "install: $(RELINKD) is not there: run 'make build' first" >&2; exit 1; }
	install -D -m 0755 '$(RELINKD)' '$(DESTDIR)$(PREFIX)/bin/relinkd'
	install -d '$(unit_dir)' '$(doc_dir)' '$(DESTDIR)$(PREFIX)/lib/sysusers.d' '$(DESTDIR)$(PREFIX)/lib/tmpfiles.d'
	$(prefixed) systemd/relinkd.service >'$(unit_dir)/relinkd.service'
	if [ '$(or $(SYSTEMD_VERSION),0)' -ge 253 ]; then \
		install -d '$(unit_dir)/relinkd.service.d'; \
		$(prefixed) systemd/relinkd.service.d/notify-reload.conf >'$(unit_dir)/relinkd.service.d/notify-reload.conf'; \
	fi
	install -m 0644 systemd/relinkd.sysusers '$(DESTDIR)$(PREFIX)/lib/sysusers.d/relinkd.conf'
	install -m 0644 systemd/relinkd.tmpfiles '$(DESTDIR)$(PREFIX)/lib/tmpfiles.d/relinkd.conf'
	install -m 0644 config.example.toml LICENSE '$(doc_dir)'
	install -d '$(share_dir)/man/man1' '$(share_dir)/bash-completion/completions' \
		'$(share_dir)/zsh/site-functions' '$(share_dir)/fish/vendor_completions.d'
	'$(RELINKD_HERE)' man >'$(share_dir)/man/man1/relinkd.1'
	'$(RELINKD_HERE)' completions bash >'$(share_dir)/bash-completion/completions/relinkd'
	'$(RELINKD_HERE)' completions zsh >'$(share_dir)/zsh/site-functions/_relinkd'
	'$(RELINKD_HERE)' completions fish >'$(share_dir)/fish/vendor_completions.d/relinkd.fish'
	chmod 0644 '$(share_dir)/man/man1/relinkd.1' '$(share_dir)/bash-completion/completions/relinkd' \
		'$(share_dir)/zsh/site-functions/_relinkd' '$(share_dir)/fish/vendor_completions.d/relinkd.fish'
	install -d '$(doc_dir)/prometheus'
	install -m 0644 docs/prometheus/README.md docs/prometheus/*.yml '$(doc_dir)/prometheus'
	@test -n '$(DESTDIR)' || printf '%s\n' 'Now, as root:' \
		'  systemd-sysusers && systemd-tmpfiles --create && systemctl daemon-reload' \
		'  write /etc/relinkd/config.toml ($(PREFIX)/share/doc/relinkd/config.example.toml is the manual)' \
		'  systemctl enable --now relinkd'
