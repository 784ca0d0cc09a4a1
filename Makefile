# kedge: the one Makefile. `make run` and `make check` do everything on a fresh machine as root.
ifeq ($(origin CC),default)
CC        := gcc
endif
# V=1 shows the commands.
Q         := $(if $(V),,@)
BUILD     ?= build
PREFIX    ?= /usr/local
VERSION   := $(shell git describe --tags --always --dirty 2>/dev/null || echo 0.1)

# Debian packages, by purpose. contrib/setup installs what is missing.
PKG_BUILD := gcc make pkg-config libsofia-sip-ua-dev libevent-dev libssl-dev libyaml-dev libjansson-dev \
             libsqlite3-dev libjemalloc-dev libsystemd-dev libprotobuf-c-dev protobuf-c-compiler uthash-dev \
             libc-ares-dev libexpat1-dev libwslay-dev libsrtp2-dev
PKG_TEST  := libcmocka-dev python3 python3-pytest iproute2 nftables sip-tester baresip-core sox coturn kamailio \
             kamailio-extra-modules kamailio-presence-modules kamailio-sqlite-modules openssl clang libclang-rt-dev liburing-dev tcpdump \
             libnice-dev linphone-cli ejabberd erlang-p1-sip chromium
PKG_LINT  := clang-format clang-tidy git
PKG_BENCH := $(PKG_TEST) rtpengine-daemon kamailio-tls-modules kamailio-websocket-modules

LIBS      := sofia-sip-ua libevent libevent_openssl libevent_pthreads openssl yaml-0.1 jansson sqlite3 libsystemd libprotobuf-c libcares expat libsrtp2
WARN      := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wformat=2
HARDEN    := -D_FORTIFY_SOURCE=3 -fstack-protector-strong -fPIE
CFLAGS    ?= -O2 -g
MODE      ?= release
# Transactions live for 32 s and calls for minutes: jemalloc keeps them apart and gives back what the former leave.
MALLOC    := -ljemalloc
ifeq ($(MODE),debug)
CFLAGS    := -O1 -g -fsanitize=address,undefined -fno-omit-frame-pointer -fno-sanitize-recover=undefined
HARDEN    := -fPIE
MALLOC    :=
BUILD     := build/debug
endif
# libevent and SQLite headers are not pedantic-clean; ours are built as C17 with POSIX and Linux extensions.
ALL_CFLAGS = -std=gnu17 -D_GNU_SOURCE -fvisibility=hidden -I. -I$(BUILD)/gen $(WARN) $(HARDEN) $(CFLAGS) \
             -DKG_VERSION='"$(VERSION)"' $(shell pkg-config --cflags $(LIBS) 2>/dev/null)
# -rdynamic: libsofia must see the symbols of ours that stand in for its own (b2bua/sip/README.md, "The shim").
LDFLAGS   += -pie -Wl,-z,relro,-z,now -rdynamic
LDLIBS     = $(shell pkg-config --libs $(LIBS) 2>/dev/null) -lwslay -lpthread -lm

SRC       := $(wildcard conf/*.c ice/*.c ice/*/*.c media/*.c b2bua/*.c b2bua/*/*.c)
PROTO     := $(BUILD)/gen/media/control.pb-c.c
OBJ       := $(SRC:%.c=$(BUILD)/obj/%.o) $(BUILD)/obj/gen/control.pb-c.o
MAIN_OBJ  := $(BUILD)/obj/b2bua/main.o
LIB_OBJ   := $(filter-out $(MAIN_OBJ),$(OBJ))

.PHONY: all debug run check lint bench soak demo install setup-build setup-test setup-lint setup-bench clean format unit \
        fuzz natlab sim reference web web-tests
all: $(BUILD)/kedge $(BUILD)/kedgectl

$(BUILD)/kedge: $(OBJ)
	@echo "  link $@"
	$(Q)$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $(OBJ) $(LDLIBS) $(MALLOC)
$(BUILD)/kedgectl: $(BUILD)/kedge
	$(Q)ln -sf kedge $@

$(BUILD)/gen/media/control.pb-c.c $(BUILD)/gen/media/control.pb-c.h &: media/control.proto
	@mkdir -p $(BUILD)/gen
	$(Q)protoc-c --c_out=$(BUILD)/gen media/control.proto
$(BUILD)/obj/gen/control.pb-c.o: $(PROTO)
	@mkdir -p $(@D)
	@echo "  compile $<"
	$(Q)$(CC) $(ALL_CFLAGS) -Wno-shadow -c -o $@ $<
$(BUILD)/obj/%.o: %.c | $(BUILD)/gen/media/control.pb-c.h
	@mkdir -p $(@D)
	@echo "  compile $<"
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<
-include $(OBJ:.o=.d)

debug:
	$(MAKE) MODE=debug all

# The softphone page, and the pages of the browser tests: bundled by esbuild from the npm packages that the lock file names.
WEBPHONE  := contrib/webphone
ESBUILD    = NODE_PATH=$(BUILD)/npm/node_modules $(BUILD)/npm/node_modules/.bin/esbuild --log-level=warning --bundle --format=esm \
             --target=es2022
$(BUILD)/npm/done: $(WEBPHONE)/package.json $(WEBPHONE)/package-lock.json $(WEBPHONE)/packages
	@echo "  npm packages of the web page"
	$(Q)$(WEBPHONE)/packages $(BUILD)/npm
	@touch $@
$(BUILD)/webphone/index.html: $(BUILD)/npm/done $(wildcard $(WEBPHONE)/*.js $(WEBPHONE)/*.html $(WEBPHONE)/*.css $(WEBPHONE)/*.svg)
	@mkdir -p $(@D)
	@echo "  bundle $(@D)"
	$(Q)$(ESBUILD) --minify --outfile=$(@D)/app.js $(WEBPHONE)/app.js
	$(Q)cd $(BUILD)/npm/node_modules && for p in jssip debug ms events sdp-transform; do \
	  echo "$$p"; echo; cat $$p/LICENSE* $$p/license* 2>/dev/null; echo; done > ../../webphone/licenses.txt
	$(Q)cp $(WEBPHONE)/*.css $(WEBPHONE)/*.svg $(WEBPHONE)/index.html $(@D)/
$(BUILD)/tests/browser/done: $(BUILD)/npm/done $(wildcard tests/browser/*) $(wildcard $(WEBPHONE)/*.js)
	@mkdir -p $(@D)
	@echo "  bundle $(@D)"
	$(Q)$(ESBUILD) --outdir=$(@D) tests/browser/jssip.js tests/browser/sipjs.js
	$(Q)cp tests/browser/*.html $(@D)/ && touch $@
web: $(BUILD)/webphone/index.html
web-tests: web $(BUILD)/tests/browser/done

# Unit tests: tests/unit/test_NAME.c, one cmocka program each, linked with everything but main.
UNIT      := $(patsubst tests/unit/%.c,$(BUILD)/tests/%,$(wildcard tests/unit/test_*.c))
$(BUILD)/libkedge.a: $(LIB_OBJ)
	@rm -f $@
	$(Q)ar rcs $@ $(LIB_OBJ)
$(BUILD)/tests/test_%: tests/unit/test_%.c $(wildcard tests/unit/*.h) $(BUILD)/libkedge.a
	@mkdir -p $(@D)
	@echo "  link $@"
	$(Q)$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $< $(BUILD)/libkedge.a -lcmocka $(LDLIBS)
unit: $(UNIT)
	tests/run unit

# The NAT emulator and other test programs: tests/natlab/*.c, tests/bench/*.c, one program each.
NATLAB    := $(patsubst tests/natlab/%.c,$(BUILD)/tests/%,$(wildcard tests/natlab/*.c))
BENCH     := $(patsubst tests/bench/%.c,$(BUILD)/tests/%,$(wildcard tests/bench/*.c))
$(BUILD)/tests/%: tests/natlab/%.c $(wildcard tests/natlab/*.h)
	@mkdir -p $(@D)
	@echo "  link $@"
	$(Q)$(CC) $(ALL_CFLAGS) -pie -o $@ $< -lm -lpthread
$(BUILD)/tests/%: tests/bench/%.c
	@mkdir -p $(@D)
	@echo "  link $@"
	$(Q)$(CC) $(ALL_CFLAGS) -pie -o $@ $< -lm -lpthread -luring -levent
$(BUILD)/tests/rtpload: tests/bench/rtpload.c tests/bench/ice.h $(BUILD)/libkedge.a
	@mkdir -p $(@D)
	@echo "  link $@"
	$(Q)$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $< $(BUILD)/libkedge.a $(LDLIBS)
$(BUILD)/tests/dtlsload: tests/bench/dtlsload.c $(BUILD)/libkedge.a
	@mkdir -p $(@D)
	@echo "  link $@"
	$(Q)$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $< $(BUILD)/libkedge.a $(LDLIBS)
$(BUILD)/tests/bench_srtp: tests/bench/bench_srtp.c tests/unit/srtp_packets.h $(BUILD)/libkedge.a
	@mkdir -p $(@D)
	@echo "  link $@"
	$(Q)$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $< $(BUILD)/libkedge.a $(LDLIBS)
natlab: $(NATLAB)

# Peers for the interop tests: libnice, and kedge's own ICE, SRTP and DTLS on real sockets.
INTEROP   := $(patsubst tests/interop/%.c,$(BUILD)/tests/%,$(wildcard tests/interop/*.c))
$(BUILD)/tests/nice_peer: tests/interop/nice_peer.c tests/interop/peer_io.h
	@mkdir -p $(@D)
	@echo "  link $@"
	$(Q)$(CC) $(ALL_CFLAGS) $(shell pkg-config --cflags nice 2>/dev/null) -pie -o $@ $< $$(pkg-config --libs nice)
$(BUILD)/tests/ice_peer $(BUILD)/tests/srtp_peer: $(BUILD)/tests/%: tests/interop/%.c tests/interop/peer_io.h $(BUILD)/libkedge.a
	@mkdir -p $(@D)
	@echo "  link $@"
	$(Q)$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $< $(BUILD)/libkedge.a $(LDLIBS)

$(BUILD)/tests/flood: tests/interop/flood.c
	@mkdir -p $(@D)
	@echo "  link $@"
	$(Q)$(CC) $(ALL_CFLAGS) -pie -o $@ $<

# The simulation of two ICE agents: one program of all tests/sim/*.c.
SIM       := $(BUILD)/tests/sim_ice
$(SIM): $(wildcard tests/sim/*.c tests/sim/*.h) $(BUILD)/libkedge.a
	@mkdir -p $(@D)
	@echo "  link $@"
	$(Q)$(CC) $(ALL_CFLAGS) -pie -o $@ $(wildcard tests/sim/*.c) $(BUILD)/libkedge.a $(LDLIBS)
sim: $(SIM)
	tests/run sim

# libFuzzer harnesses: tests/fuzz/fuzz_NAME.c; built in every `make check`, run briefly there and longer here.
FUZZ      := $(patsubst tests/fuzz/%.c,$(BUILD)/fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ_SECONDS ?= 300
FUZZ_SRC  := $(filter conf/% ice/% b2bua/sdp/% media/% b2bua/guard/% b2bua/nat/% $(addprefix b2bua/,sip/framing.c sip/websocket.c sip/http.c sip/handshake.c sip/flow.c sip/uri.c \
             registrar/digest.c registrar/nonces.c registrar/challenge.c registrar/bindings.c registrar/keepalive_learn.c \
             call/dialog_id.c call/identity.c call/headers.c control/path.c request/dialog_info.c \
             request/dialog_info_parts.c \
             route/dns.c route/locate.c route/numbers.c route/caps.c),$(SRC))
FUZZ_OBJ  := $(FUZZ_SRC:%.c=$(BUILD)/fuzz/obj/%.o) $(BUILD)/fuzz/obj/gen/control.pb-c.o
FUZZ_CC    = clang -fsanitize=address,undefined -fno-sanitize-recover=undefined -std=gnu17 -D_GNU_SOURCE -O1 -g -I. \
             -I$(BUILD)/gen -DKG_VERSION='"fuzz"' -DKG_GUARD_SOURCES=1024 -DKG_GUARD_BANS=512 $(shell pkg-config --cflags $(LIBS) 2>/dev/null)
$(BUILD)/fuzz/obj/gen/control.pb-c.o: $(PROTO)
	@mkdir -p $(@D)
	@echo "  compile $<"
	$(Q)$(FUZZ_CC) -fsanitize=fuzzer-no-link -c -o $@ $<
$(BUILD)/fuzz/obj/%.o: %.c | $(BUILD)/gen/media/control.pb-c.h
	@mkdir -p $(@D)
	@echo "  compile $<"
	$(Q)$(FUZZ_CC) -fsanitize=fuzzer-no-link -MMD -MP -c -o $@ $<
$(BUILD)/fuzz/libkedge.a: $(FUZZ_OBJ)
	@rm -f $@
	$(Q)ar rcs $@ $(FUZZ_OBJ)
$(BUILD)/fuzz/fuzz_%: tests/fuzz/fuzz_%.c $(BUILD)/fuzz/libkedge.a
	@echo "  link $@"
	$(Q)$(FUZZ_CC) -fsanitize=fuzzer -o $@ $< $(BUILD)/fuzz/libkedge.a $(LDLIBS)
-include $(FUZZ_OBJ:.o=.d)
fuzz: $(FUZZ)
	FUZZ_SECONDS=$(FUZZ_SECONDS) FUZZ_SEED=0 tests/run fuzz

setup-build setup-test setup-lint setup-bench: setup-%:
	@contrib/setup $(PKG_BUILD) $(if $(filter test,$*),$(PKG_TEST) $(PKG_LINT)) $(if $(filter lint,$*),$(PKG_LINT)) \
	  $(if $(filter bench,$*),$(PKG_BENCH))

run: setup-build
	@$(MAKE) -s --no-print-directory all
	@$(MAKE) -s --no-print-directory web 2> $(BUILD)/web.log || true
	@contrib/first-run $(BUILD)

check: setup-test
	@$(MAKE) --no-print-directory all $(UNIT) $(SIM) $(NATLAB) $(INTEROP) $(BENCH) $(FUZZ)
	@$(MAKE) --no-print-directory web-tests || echo "The tests with browsers will fail: their pages are not built."
	@tests/run all

lint: setup-lint
	@contrib/lint/run

bench: setup-bench
	@$(MAKE) --no-print-directory all $(NATLAB) $(BENCH)
	@$(MAKE) --no-print-directory web-tests || echo "No pages: browsers are left out."
	@tests/bench/run

# An hour at half of the highest call rate; SOAK_SECONDS=600 SOAK_RATE=500 make soak
soak: setup-bench
	@$(MAKE) --no-print-directory all
	@tests/bench/soak $(or $(SOAK_SECONDS),3600) $(SOAK_RATE)

# make demo A=symmetric B=port-restricted ICE=yes
demo: setup-test
	@$(MAKE) --no-print-directory all $(NATLAB)
	@/usr/bin/python3 tests/natlab/demo.py $(or $(A),port-restricted) $(or $(B),symmetric) $(or $(ICE),no)

reference: all
	@contrib/lint/reference $(BUILD)/kedge

format:
	clang-format -i $(shell git ls-files '*.c' '*.h')

install: all
	install -D -m 755 $(BUILD)/kedge $(DESTDIR)$(PREFIX)/sbin/kedge
	ln -sf ../sbin/kedge $(DESTDIR)$(PREFIX)/sbin/kedgectl
	install -D -m 644 conf/kedge.yaml $(DESTDIR)/etc/kedge/kedge.yaml.example
	if [ -e $(BUILD)/webphone/index.html ]; then install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/kedge/webphone $(BUILD)/webphone/*; fi
	install -d $(DESTDIR)/lib/systemd/system
	sed 's|@PREFIX@|$(PREFIX)|g' contrib/systemd/kedge.service > $(DESTDIR)/lib/systemd/system/kedge.service
	@echo 'Next: cp -n /etc/kedge/kedge.yaml.example /etc/kedge/kedge.yaml, edit it, then'
	@echo '      systemctl daemon-reload && systemctl enable --now kedge && kedgectl account add 1001 --generate'

clean:
	rm -rf build
