# synfind: build, check, run, install.  `make help` lists the targets.

PREFIX   ?= /usr/local
DESTDIR  ?=
BINDIR   ?= $(PREFIX)/bin
SBINDIR  ?= $(PREFIX)/sbin
LIBEXECDIR ?= $(PREFIX)/lib/synfind
SYSCONFDIR ?= /etc
# systemd reads all of these below /usr/local/lib as well as below /usr/lib.
UNITDIR  ?= $(PREFIX)/lib/systemd/system
CC       ?= gcc
CFLAGS   ?= -O3 -g
SANITIZE ?=
IFACE    ?= auto
V        ?=

VERSION := 0.1.0
comma   := ,
B       := build$(if $(SANITIZE),/$(subst $(comma),-,$(SANITIZE)))
Q       := $(if $(V),,@)

PKGS     := libsystemd jansson libmd libseccomp libcap-ng libbpf libpcap zlib liblzma libzstd
WARN     := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wundef
CPPFLAGS += -Ilib -I. -Idaemon -Ibuild -D_GNU_SOURCE -DSYNFIND_VERSION='"$(VERSION)"'
# The hot path crosses modules: gcc inlines there at the link.  Objects serve the tests as well.
LTO      := $(if $(or $(SANITIZE),$(findstring clang,$(CC))),,-flto=auto)
# A struct without a name in another one may have a tag: struct conn has its parts like that.
DIALECT := -std=gnu17 -fms-extensions $(if $(findstring clang,$(CC)),-Wno-microsoft-anon-tag)
ALL_CFLAGS := $(DIALECT) $(WARN) $(CFLAGS) $(if $(SANITIZE),-fsanitize=$(SANITIZE) \
              -fno-omit-frame-pointer -fno-sanitize-recover=undefined)
LDLIBS   += -Wl,--as-needed $(shell pkg-config --libs $(PKGS) 2>/dev/null) -pthread

say = $(if $(V),,@printf '  %-6s %s\n' '$(1)' '$(2)')

LIB_SRC    := $(filter-out %.bpf.c,$(wildcard lib/*/*.c bpf/*.c))
BPF_SRC    := $(wildcard bpf/*.bpf.c)
COMMON_SRC := $(wildcard daemon/common/*.c)
OPENER_SRC  := $(wildcard daemon/opener/*.c)
CTL_SRC     := $(wildcard daemon/synfinctl/*.c)
SYNFIND_SRC := $(wildcard daemon/synfind/*.c) $(filter-out %/main.c,$(OPENER_SRC))
UNIT_SRC   := $(wildcard tests/unit/test_*.c)
FUZZ_SRC   := $(wildcard tests/fuzz/fuzz_*.c)

obj = $(patsubst %.c,$(B)/obj/%.o,$(1))

# eBPF: bpf/x.bpf.c becomes build/skel/x.skel.h, which holds the program: #include <skel/x.skel.h>.
SKEL    := $(patsubst bpf/%.bpf.c,build/skel/%.skel.h,$(BPF_SRC))
BPFTOOL ?= $(firstword $(wildcard /usr/sbin/bpftool) bpftool)

LIB := $(B)/libsynfind.a
UNIT := $(patsubst tests/unit/%.c,$(B)/tests/%,$(UNIT_SRC))
# Fuzzers and the thread-sanitised tests are built by clang or with flags of their own.
FUZZ := $(patsubst tests/fuzz/%.c,build/fuzz/%,$(FUZZ_SRC))
GEN  := build/tests/gen build/tests/jsonlines build/tests/pump build/tests/replay \
        build/tests/fixed_random.so build/tests/uml_xstate.so build/tests/load build/tests/readers build/tests/blast \
        build/tests/unstamp.bpf.o build/tests/synfind-faults
TRUTH := build/tests/truth-relay build/tests/truth-driver
BENCH := $(addprefix build/bench/,measure memwalk blast ringwalk latency writers) \
         $(patsubst tests/bench/%.c,build/bench/%,$(wildcard tests/bench/micro_*.c))

# Kept, so that a change to a header makes them anew.
.SECONDARY: $(SKEL) $(SKEL:.skel.h=.bpf.o)
.PHONY: all help run check distros unit fuzz-build fuzz truth restart-proof bench mutants deps install uninstall deb clean
all: $(B)/synfind $(B)/synfind-opener $(B)/synfinctl
	@:

help:
	@printf '%s\n' \
	  'make               build build/synfind' \
	  'make run           install what is missing, build, watch (IFACE=auto, any, eth0, veth*)' \
	  'make check         install what is missing, build, run every test (TESTS=words: some)' \
	  'make distros       the same, and the package, on a fresh Debian 12 and 13 (RELEASES=, TESTS=)' \
	  'make truth         compare with the kernel: N=10000 connections, SEED=' \
	  'make restart-proof restarts, SIGKILLs, an upgrade, a hang, under traffic: is anything lost?' \
	  'make bench         measure all, beside other tools (QUICK=1: in 3 minutes; FULL=1: 10 M too)' \
	  'make fuzz          every fuzzer for T=600 seconds each' \
	  'make mutants       break the state table and the checks of segments: does a test see it?' \
	  'make install       DESTDIR= PREFIX=/usr/local; then systemctl enable --now synfind' \
	  'make uninstall     take that back' \
	  'make deb           a Debian package in build/deb/' \
	  'make clean         remove build/' \
	  'V=1 shows commands; SANITIZE=address,undefined or thread builds into build/<that>/'

$(B)/synfind: $(call obj,$(SYNFIND_SRC) $(COMMON_SRC)) $(LIB)
	$(call say,LINK,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(LTO) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(B)/synfind-opener: $(call obj,$(filter-out %/spawn.c,$(OPENER_SRC)) $(COMMON_SRC)) $(LIB)
	$(call say,LINK,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(B)/synfinctl: $(call obj,$(CTL_SRC)) $(LIB)
	$(call say,LINK,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(LIB): $(call obj,$(LIB_SRC))
	$(call say,AR,$@)
	$(Q)rm -f $@ && $(AR) rcs $@ $^

build/skel/%.bpf.o: bpf/%.bpf.c
	$(call say,BPF,$<)
	$(Q)mkdir -p $(@D)
	$(Q)clang -target bpf -mcpu=v3 -ffreestanding -O2 -g -Wall -Wextra -Ilib -I. \
	  -idirafter /usr/include/$(shell $(CC) -print-multiarch) -MMD -MP -c -o $@ $<

build/skel/%.skel.h: build/skel/%.bpf.o
	$(call say,SKEL,$@)
	$(Q)$(BPFTOOL) gen skeleton $< name $*_bpf >$@.part && mv $@.part $@

$(B)/obj/%.o: %.c | $(SKEL)
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(ALL_CFLAGS) $(if $(LTO),$(LTO) -ffat-lto-objects) -MMD -MP -c -o $@ $<

$(B)/tests/%: tests/unit/%.c $(LIB)
	$(call say,TEST,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(ALL_CFLAGS) -MMD -MP -MF $@.d -o $@ $< $(LIB) $(LDLIBS)

# The ring between threads is proven under ThreadSanitizer, whatever the rest is built with.
# (It does not model the two fences of the wake-up; the test stresses those, and -Wno-tsan.)
build/tests/test_spsc.tsan: tests/unit/test_spsc.c $(wildcard lib/base/*.h)
	$(call say,TSAN,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(DIALECT) $(WARN) -Wno-tsan -O1 -g -fsanitize=thread -o $@ $< -pthread

# So are the requests between the main thread and a decoder's, with all that the thread runs.
build/tests/test_decoder.tsan: tests/unit/test_decoder.c $(wildcard daemon/synfind/*.[ch]) \
  $(wildcard lib/base/*.[ch] lib/wire/*.[ch] lib/flow/*.[ch] lib/source/*.[ch]) | $(SKEL)
	$(call say,TSAN,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(DIALECT) $(WARN) -Wno-tsan -O1 -g -fsanitize=thread -o $@ \
	  $(filter tests/% lib/base/%.c lib/wire/%.c lib/flow/%.c lib/source/fanout.c,$^) $(LDLIBS)

# fuzz_options.c, fuzz_request.c and fuzz_varlink.c include what they need of daemon/; these are
# linked with it.
FUZZ_REPORT := $(addprefix daemon/synfinctl/,human.c js.c fields.c quantile.c top.c peers.c cli.c \
               out.c choose.c describe.c digest.c print.c page.c)
FUZZ_LINES  := $(addprefix daemon/synfinctl/,human.c js.c lines.c cli.c out.c describe.c tally.c \
               choose.c print.c sequence.c steps.c)
build/fuzz/fuzz_report: FUZZED := $(FUZZ_REPORT)
build/fuzz/fuzz_report: $(FUZZ_REPORT) $(wildcard daemon/synfinctl/*.h)
build/fuzz/fuzz_lines: FUZZED := $(FUZZ_LINES)
build/fuzz/fuzz_lines: $(FUZZ_LINES) $(wildcard daemon/synfinctl/*.h)
build/fuzz/%: tests/fuzz/%.c $(LIB_SRC) $(wildcard lib/*/*.h bpf/*.h) $(wildcard daemon/common/*.[ch]) \
  $(wildcard daemon/synfind/varlink.[ch] daemon/synfind/request.[ch] daemon/synfind/filters.[ch]) \
  | $(SKEL)
	$(call say,FUZZ,$@)
	$(Q)mkdir -p $(@D)
	$(Q)clang $(CPPFLAGS) $(DIALECT) -Wno-microsoft-anon-tag -Wall -Wextra -O1 -g -fsanitize=fuzzer,address,undefined \
	  -fno-sanitize-recover=undefined -o $@ $< $(FUZZED) $(LIB_SRC) $(LDLIBS)

build/tests/gen: tests/bench/gen.c
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -O2 -std=gnu17 -Wall -Wextra -o $@ $<

# The independent parser that every line of every test must pass.
build/tests/jsonlines: tests/support/jsonlines.c
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -O2 -std=gnu17 -Wall -Wextra -o $@ $< -ljansson

# For LD_PRELOAD.
build/tests/%.so: tests/support/%.c
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -O2 -std=gnu17 -Wall -Wextra -D_GNU_SOURCE -shared -fPIC -o $@ $<

# Paced connections of many kinds, for the restarts.
build/tests/load: tests/support/load.c
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -O2 -g $(DIALECT) $(WARN) -D_GNU_SOURCE -o $@ $<

# Subscribers and a sender for traffic at full speed.
build/tests/readers: tests/support/readers.c
build/tests/blast: tests/bench/blast.c
build/tests/readers build/tests/blast:
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -O2 -g $(DIALECT) $(WARN) -D_GNU_SOURCE -o $@ $<

build/tests/%.bpf.o: tests/support/%.bpf.c
	$(call say,BPF,$<)
	$(Q)mkdir -p $(@D)
	$(Q)clang -target bpf -mcpu=v3 -O2 -g -Wall -Wextra \
	  -idirafter /usr/include/$(shell $(CC) -print-multiarch) -c -o $@ $<

# Two kernels, a relay and the tracepoint, for the comparison with the kernel's own states.
build/tests/truth-%: tests/truth/%.c tests/truth/plan.h
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -O2 -g $(DIALECT) $(WARN) -D_GNU_SOURCE -o $@ $<

# Benchmarks.  The programs stand alone; a micro_* times stages of ours, and may name objects of the
# daemon as further prerequisites.
build/bench/%: tests/bench/%.c
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -O2 -g -march=native $(DIALECT) $(WARN) -D_GNU_SOURCE -o $@ $<

build/bench/micro_%: tests/bench/micro_%.c $(LIB)
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(ALL_CFLAGS) -MMD -MP -MF $@.d -o $@ $(filter %.c %.o %.a,$^) $(LDLIBS)

build/bench/micro_publish: tests/bench/micro_publish.c $(call obj,$(filter-out %/main.c,$(SYNFIND_SRC)) $(COMMON_SRC)) $(LIB)
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(ALL_CFLAGS) -MMD -MP -MF $@.d -o $@ $(filter %.c %.o %.a,$^) $(LDLIBS)

build/bench/micro_links: tests/bench/micro_links.c $(call obj,$(filter-out %/main.c %/decoder.c,$(SYNFIND_SRC)) $(COMMON_SRC)) $(LIB)
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(ALL_CFLAGS) -MMD -MP -MF $@.d -o $@ $< $(filter %.o %.a,$^) $(LDLIBS)

# The daemon with faults that a test chooses: calls between objects are wrapped, so no -flto.
FAULTS := frame_decode json_event timeout_sweep
build/tests/synfind-faults: tests/support/faults.c $(call obj,$(SYNFIND_SRC) $(COMMON_SRC)) $(LIB)
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(ALL_CFLAGS) -MMD -MP -MF $@.d -o $@ $(filter %.c %.o %.a,$^) \
	  $(addprefix -Wl$(comma)--wrap=,$(FAULTS)) $(LDLIBS)

# The publisher alone, to be killed as it works.
build/tests/pump: tests/support/pump.c $(call obj,$(filter-out %/main.c,$(SYNFIND_SRC)) $(COMMON_SRC)) $(LIB)
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(ALL_CFLAGS) -MMD -MP -MF $@.d -o $@ $(filter %.c %.o %.a,$^) $(LDLIBS)

# The tracker alone, of a file: built like the daemon, since its instructions are counted.
build/tests/replay: tests/support/replay.c $(LIB)
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(ALL_CFLAGS) $(LTO) -MMD -MP -MF $@.d -o $@ $(filter %.c %.a,$^) $(LDLIBS)

# Verdicts of expressions, for conformance/where.py.
build/tests/where_eval: tests/support/where_eval.c $(LIB)
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(ALL_CFLAGS) -MMD -MP -MF $@.d -o $@ $(filter %.c %.a,$^) $(LDLIBS)

# Everything is measured beside its peers, in one run; see docs/benchmarks.md.
bench: deps
	$(Q)tests/bench/install-peers.sh
	$(Q)$(MAKE) --no-print-directory all $(GEN) $(BENCH)
	$(Q)tests/bench/bench.py $(if $(QUICK),--quick) $(if $(FULL),--full) $(if $(KEEP),--keep) $(STEPS)

truth: deps
	$(Q)$(MAKE) --no-print-directory all $(TRUTH) $(GEN)
	$(Q)tests/truth/truth.py N=$(or $(N),10000) $(if $(SEED),SEED=$(SEED))

# Restart without loss at 50,000 packets a second.
restart-proof: deps
	$(Q)$(MAKE) --no-print-directory all $(GEN) $(DEB)
	$(Q)/usr/bin/python3 tests/live/restart.py --full $(ARGS)

# Breaks the state table and the checks of segments in every place, one at a time: each must make a test fail.
mutants: deps
	$(Q)$(MAKE) --no-print-directory all $(GEN)
	$(Q)tests/support/mutants.py -j 2
	$(Q)tests/support/undo_mutants.py

fuzz: deps
	$(Q)$(MAKE) --no-print-directory fuzz-build
	$(Q)FUZZ_SECONDS=$(or $(T),600) TEST_TIMEOUT=$$(( $(or $(T),600) + 120 )) tests/run fuzz/

deps:
	$(Q)tests/support/install-deps.sh

unit: $(UNIT) build/tests/test_spsc.tsan build/tests/test_decoder.tsan build/tests/where_eval
fuzz-build: $(FUZZ)

run: deps
	$(Q)$(MAKE) --no-print-directory all
	$(Q)exec bash -o pipefail -c '$(B)/synfind --interface="$(IFACE)" --stdout $(ARGS) | \
	  { trap "" INT; $(B)/synfinctl replay - || [ $$? = 1 ]; }'

check: deps
	$(Q)$(MAKE) --no-print-directory all unit fuzz-build $(GEN) $(TRUTH) $(DEB)
	$(Q)tests/run $(TESTS)

# Both commands of the README, and the package, on fresh machines of each release.
distros:
	$(Q)tests/support/install-deps.sh debootstrap slirp4netns
	$(Q)/usr/bin/python3 tests/support/distros.py $(RELEASES) $(if $(TESTS),--tests '$(TESTS)')

# Where things are is in the units.
$(B)/%.service: systemd/%.service.in Makefile
	$(call say,UNIT,$@)
	$(Q)sed 's#@SBINDIR@#$(SBINDIR)#g; s#@LIBEXECDIR@#$(LIBEXECDIR)#g' $< >$@

# The pages of section 7 that are read on the web, too, are written once, in Markdown.  The first line
# says that tbl(1) has to set the tables.
MAN7 := build/man/synfind-events.7 build/man/synfind-requests.7
build/man/synfind-%.7: docs/%.md
	$(call say,MAN,$@)
	$(Q)mkdir -p $(@D)
	$(Q){ printf "'\\\\\" t\n"; \
	  lowdown -s -tman -M title=SYNFIND-$(subst events,EVENTS,$(subst requests,REQUESTS,$*)) -M section=7 $<; } | \
	  sed '/^\.TH/a .nh\n.ad l\n.SH NAME\nsynfind-$* \\- $(if $(filter events,$*),events of TCP connections,requests for TCP events), as lines of JSON' >$@

# The commands of synfinctl are described in its sources.
build/man/synfinctl.1: docs/man/synfinctl.1.in $(B)/synfinctl
	$(call say,MAN,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(B)/synfinctl --mdoc | sed -e '/^@COMMANDS@$$/{r /dev/stdin' -e 'd}' $< >$@

# Where each shell looks for completion of a command.
COMPLETION := bash:bash-completion/completions/synfinctl zsh:zsh/vendor-completions/_synfinctl \
              fish:fish/vendor_completions.d/synfinctl.fish

UNITS := synfind.service synfind-opener.service synfind.socket synfind-opener.socket

install: all $(MAN7) build/man/synfinctl.1
	rm -f $(B)/*.service
	$(Q)$(MAKE) --no-print-directory $(B)/synfind.service $(B)/synfind-opener.service
	install -D -m 755 $(B)/synfind $(DESTDIR)$(SBINDIR)/synfind
	install -D -m 755 $(B)/synfinctl $(DESTDIR)$(BINDIR)/synfinctl
	install -D -m 755 $(B)/synfind-opener $(DESTDIR)$(LIBEXECDIR)/synfind-opener
	install -D -m 644 -t $(DESTDIR)$(UNITDIR) $(B)/synfind.service $(B)/synfind-opener.service \
	  systemd/synfind.socket systemd/synfind-opener.socket
	install -D -m 644 systemd/90-synfind.preset $(DESTDIR)$(UNITDIR)-preset/90-synfind.preset
	install -D -m 644 systemd/synfind.sysusers $(DESTDIR)$(PREFIX)/lib/sysusers.d/synfind.conf
	install -D -m 644 systemd/synfind.tmpfiles $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/synfind.conf
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man8 docs/man/synfind.8 docs/man/synfind-opener.8
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man1 build/man/synfinctl.1
	$(Q)for c in $(COMPLETION); do f=$(DESTDIR)$(PREFIX)/share/$${c#*:}; mkdir -p $${f%/*} && \
	  $(B)/synfinctl completion $${c%%:*} >$$f && chmod 644 $$f || exit 1; done
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man7 docs/man/synfind-control.7 $(MAN7)
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/synfind conf/synfind.conf docs/events.schema.json
	[ -e $(DESTDIR)$(SYSCONFDIR)/synfind/synfind.conf ] || \
	  install -D -m 644 conf/synfind.conf $(DESTDIR)$(SYSCONFDIR)/synfind/synfind.conf

uninstall:
	rm -f $(DESTDIR)$(BINDIR)/synfinctl $(DESTDIR)$(PREFIX)/share/man/man1/synfinctl.1
	rm -f $(foreach c,$(COMPLETION),$(DESTDIR)$(PREFIX)/share/$(lastword $(subst :, ,$(c))))
	rm -f $(DESTDIR)$(SBINDIR)/synfind $(addprefix $(DESTDIR)$(PREFIX)/share/man/man8/,synfind.8 synfind-opener.8)
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/share/man/man7/,synfind-control.7 synfind-events.7 synfind-requests.7)
	rm -f $(addprefix $(DESTDIR)$(UNITDIR)/,$(UNITS)) $(DESTDIR)$(UNITDIR)-preset/90-synfind.preset
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/lib/,sysusers.d/synfind.conf tmpfiles.d/synfind.conf)
	rm -rf $(DESTDIR)$(PREFIX)/share/synfind $(DESTDIR)$(LIBEXECDIR)

# In a copy, since dpkg-buildpackage leaves its files beside the tree.
DEB := build/deb/built
deb: deps
	$(Q)$(MAKE) --no-print-directory $(DEB)
	$(Q)ls build/deb/*.deb

$(DEB): Makefile $(wildcard lib/*/* bpf/* daemon/*/* conf/* docs/man/* debian/* systemd/*) docs/events.schema.json docs/events.md docs/requests.md
	$(call say,DEB,build/deb)
	$(Q)rm -rf build/deb && mkdir -p build/deb/synfind
	$(Q)tar -c --exclude=./build --exclude=./.git --exclude=__pycache__ . | tar -x -C build/deb/synfind
	$(Q)cd build/deb/synfind && dpkg-buildpackage -us -uc -b >../log 2>&1 || { tail -40 ../log; exit 1; }
	$(Q)lintian --allow-root --fail-on error,warning build/deb/synfind_*.changes
	$(Q)touch $@

clean:
	rm -rf build

-include $(shell find build '(' -path build/deb -o -path build/distros ')' -prune -o -name '*.d' -print 2>/dev/null)
