.POSIX:
.PHONY: quickstart demo test fuzz faults count cluster drill bench bench-full flood docs audit clean

CARGO = cargo

# A server, a client and a guest, to look at.
quickstart:
	@command -v $(CARGO) >/dev/null || { echo 'Needs Rust: install it with rustup, then try again.' >&2; exit 1; }
	@echo 'Building. The first time takes some minutes.'
	@$(CARGO) build --quiet --locked
	@./target/debug/guestpass quickstart

# A small shop in front of Guestpass, to click through in a browser. PORT=8089 chooses another port.
demo:
	@command -v $(CARGO) >/dev/null || { echo 'Needs Rust: install it with rustup, then try again.' >&2; exit 1; }
	@echo 'Building. The first time takes some minutes.'
	@$(CARGO) build --quiet --locked
	@demo/run ./target/debug/guestpass

# Everything that continuous integration checks.
test:
	@tests/run

# Each write, sync, truncation and rename of the process fails once, with each error of a disk: in some minutes all of them, of which
# `make test` takes a tenth.
faults:
	@GUESTPASS_TEST_FAULTS=1 $(CARGO) test --quiet --locked --test it faults::storage::

# Everything that reads what isn't ours, fed with what a fuzzer makes up, a minute for each target or `make fuzz SECONDS=1800`.
# Adds to fuzz/corpus what reaches something new; `make test` runs the corpus.
fuzz:
	@tests/fuzz $(SECONDS)

# Instructions of a request, stage by stage, against bench/instructions.json. `make count WRITE=1` writes them there instead,
# for the release build and for the one that `make test` counts.
count:
	@$(CARGO) build --quiet --release --locked -p guestpass-bench
	@tests/count target/release/guestpass-bench $(WRITE:1=--write)
	@[ -z '$(WRITE)' ] || $(CARGO) test --quiet --locked --workspace --test smoke --no-run
	@[ -z '$(WRITE)' ] || tests/count target/debug/guestpass-bench --write

# PostgreSQL on three hosts, HAProxy and two nodes, all on this machine, to kill and watch. Ctrl-C ends it.
cluster:
	@$(CARGO) build --quiet --locked
	@tests/cluster/run cluster

# Failover under load, in some five minutes. Writes the figures of docs/reliability.md.
drill:
	@$(CARGO) build --quiet --locked
	@tests/cluster/run drill

# What matters most, against the floors of this machine, within 15 minutes. Nothing else should run.
bench:
	@$(CARGO) build --quiet --release --locked -p guestpass -p guestpass-bench
	@target/release/guestpass-bench --json target/bench.json

# Everything, within 90 minutes. Writes the figures of docs/performance.md.
bench-full:
	@$(CARGO) build --quiet --release --locked -p guestpass -p guestpass-bench
	@target/release/guestpass-bench --full --json target/bench.json --write-docs

# All that strangers can do at once, for five minutes, and whether guests notice. Nothing else should run.
flood:
	@$(CARGO) build --quiet --release --locked -p guestpass -p guestpass-bench
	@target/release/guestpass-bench flood --json target/flood.json

# Writes the documents that are generated: after a change of refusals or settings, and after a test run.
docs:
	@GUESTPASS_WRITE_DOCS=1 $(CARGO) test --quiet --locked --test it docs::
	@[ -s target/test.log ] || { echo 'Run make test first: the table of cases comes from its results.' >&2; exit 1; }
	@python3 docs/conformance/generate.py target/test.log

# Known vulnerabilities, where the advisory database can be downloaded.
audit:
	@tests/tools
	@PATH="$$PWD/target/tools/bin:$$PATH" $(CARGO) deny check advisories

clean:
	@$(CARGO) clean
