# make            the module for the nginx that is installed
# make test       the tests, or those of TESTS; installs what they need
# make test-long  the same with all that takes long: less than an hour
# make test-asan  the same under AddressSanitizer and UBSan
# make test-valgrind
#                 the same under valgrind's memcheck
# make test-debug the same with each error log at level debug
# make coverage   what the tests run of the module, which must be nearly all
# make lint       the analysers of gcc and clang, clang-tidy, cppcheck; says
#                 nothing but what it finds
# make builds     other nginxes from the whole source at NGINX_SRC, each
#                 with the module, by gcc or clang, and a few tests
# make fuzz       each fuzz target for FUZZ_SECONDS, under both sanitizers
# make bench      CPU time of a request by the side of what else does the job
# make bench-instructions
#                 instructions of a request, by callgrind
# make run        nginx with the module, a login page, a backend and a stand-in
#                 API
# make install    the module to where nginx looks for it, and its manual page;
#                 DESTDIR, MANDIR
# make deb        the same as a package of Debian's: build/*.deb
# make deb-try    looks at the package, and at its life in a clean Debian
# make clean      removes what was built; make help prints this
#
# For another nginx than the one that is installed, give its program as NGINX,
# its source as NGINX_SRC and, so that both can be built, a directory as BUILD:
#
#     make test NGINX=/path/objs/nginx NGINX_SRC=/path BUILD=build/other
#
# OPTIONS are those that it was configured with, if --with-compat is not one.

NGINX       = /usr/sbin/nginx
NGINX_SRC   = /usr/share/nginx/src
BUILD       = build
OPTIONS     =
ADD         = --add-dynamic-module

CC          = cc
# -Wno-unused-parameter as nginx has it: callbacks do not need all they get
WARNINGS    = -Wall -Wextra -Wno-unused-parameter -Werror
CFLAGS      = -g -O2

MODULE      = $(BUILD)/ngx_http_quickblox_module.so
SOURCES     = $(wildcard ngx_http_quickblox_module/*.[ch])
PAGE        = ngx_http_quickblox_module/ngx_http_quickblox_status.html
UNITS       = $(addprefix $(BUILD)/unit/, cookie_test login_test \
              message_test model_test table_test)
PRELOADS    = $(addprefix $(BUILD)/unit/, fail.so heap.so keep.so kill.so)
WALK        = $(BUILD)/unit/zone_walk

FUZZERS     = $(patsubst fuzz/%.c, $(BUILD)/unit/%_fuzz, \
              $(filter-out fuzz/main.c, $(wildcard fuzz/*.c)))

# what each of the unit tests links

cookie_PARTS  = cookie.c message.c json.c
login_PARTS   = login.c json.c
message_PARTS = message.c json.c
table_PARTS   = table.c

NGINX_DIRS  = $(addprefix $(NGINX_SRC)/src/, core event event/modules \
              os/unix http http/modules http/v2) $(BUILD)/nginx/objs
INCLUDES    = $(addprefix -I, $(NGINX_DIRS) ngx_http_quickblox_module)

# what a fresh Debian lacks

BUILD_DEPS  = gcc make nginx nginx-dev libcjson-dev libssl-dev \
              libpcre2-dev zlib1g-dev
RUN_DEPS    = libmojolicious-perl libio-socket-ssl-perl openssl curl
TEST_DEPS   = $(RUN_DEPS) perl nghttp2-client faketime uwsgi-core \
              uwsgi-plugin-psgi python3-grpcio chromium
FUZZ_DEPS   = clang libclang-rt-dev
BUILDS_DEPS = clang libpcre2-dev $(RUN_DEPS) perl nghttp2-client
LINT_DEPS   = clang clang-tidy cppcheck

VALGRIND_DEPS = valgrind libc6-dbg
DEB_DEPS    = build-essential debhelper nginx nginx-dev libcjson-dev libssl-dev
TRY_DEPS    = $(RUN_DEPS) perl lintian man-db debootstrap
BENCH_DEPS  = $(RUN_DEPS) perl wrk libnginx-mod-http-lua libnginx-mod-http-js \
              haproxy gnuplot-nox valgrind

PROVE       = prove -j2 --timer
TESTS       = t/


all: $(MODULE)

$(MODULE): $(BUILD)/nginx/objs/Makefile $(SOURCES)
	$(MAKE) -s -C $(BUILD)/nginx -f objs/Makefile modules
	cp $(BUILD)/nginx/objs/ngx_http_quickblox_module.so $@.new
	mv -f $@.new $@

# nginx's configure mangles absolute paths such as /tmp/a.S/b, so it is run in
# a tree of links; only Debian's source has conf_flags, only a clone has no
# configure of its own

$(BUILD)/nginx/objs/Makefile: config $(PAGE) $(BUILD)/.build-deps
	rm -rf $(BUILD)/nginx && mkdir -p $(BUILD)/nginx
	ln -s $(CURDIR) $(BUILD)/nginx/quickblox
	ln -s $(NGINX_SRC)/auto $(NGINX_SRC)/src $(BUILD)/nginx
	ln -s $$(ls $(NGINX_SRC)/configure 2>/dev/null || echo auto/configure) \
	    $(BUILD)/nginx/configure
	cd $(BUILD)/nginx && NGX_CONF_FLAGS="$(OPTIONS)"; \
	if [ -z "$$NGX_CONF_FLAGS" ]; then NGX_CONF_FLAGS="--with-compat \
	    --with-http_ssl_module --with-http_v2_module --with-threads"; fi; \
	if [ -z "$(OPTIONS)" ] && [ -f $(NGINX_SRC)/conf_flags ]; then \
	    eval "$$(sed 's/=(/="/; s/)$$/"/' $(NGINX_SRC)/conf_flags)"; fi; \
	./configure $$NGX_CONF_FLAGS --with-cc="$(CC)" \
	    --with-cc-opt="$(CFLAGS) $(WARNINGS) -fPIC" \
	    $(ADD)=quickblox > configure.log \
	    || { cat configure.log; exit 1; }

# nginx itself, which only t/builds wants

$(BUILD)/nginx/objs/nginx: $(BUILD)/nginx/objs/Makefile $(SOURCES)
	$(MAKE) -s -C $(BUILD)/nginx -f objs/Makefile binary

$(BUILD)/unit/%_test: t/unit/%_test.c t/unit/unit.h $(SOURCES) \
    $(BUILD)/nginx/objs/Makefile
	mkdir -p $(BUILD)/unit
	$(CC) $(CFLAGS) $(WARNINGS) $(INCLUDES) -o $@ $< $(addprefix \
	    ngx_http_quickblox_module/ngx_http_quickblox_, $($*_PARTS)) \
	    -lcrypto -lcjson -lm

$(BUILD)/unit/%.so: t/preload/%.c t/preload/hook.h \
    $(BUILD)/nginx/objs/Makefile
	mkdir -p $(BUILD)/unit
	$(CC) $(CFLAGS) $(WARNINGS) $(INCLUDES) -fPIC -shared -o $@ $<

# a target links the nginx that is installed, and all of the module but the
# file that it includes; -fPIC, as else it had copies of nginx's variables

FUZZ_MAIN   = fuzz/main.c

$(BUILD)/libnginx.so: fuzz/library.pl $(MODULE) $(wildcard $(NGINX))
	perl fuzz/library.pl $(NGINX) $@

$(BUILD)/module.a: $(MODULE)
	rm -f $@
	$(AR) rc $@ $(BUILD)/nginx/objs/addon/ngx_http_quickblox_module/*.o

$(BUILD)/unit/%_fuzz: fuzz/%.c fuzz/fuzz.h fuzz/main.c $(BUILD)/module.a \
    $(BUILD)/libnginx.so
	mkdir -p $(BUILD)/unit
	$(CC) $(CFLAGS) $(WARNINGS) -fPIC $(INCLUDES) -o $@ $< $(FUZZ_MAIN) \
	    $(BUILD)/module.a -L $(BUILD) -Wl,-rpath,$(CURDIR)/$(BUILD) \
	    -lnginx -lssl -lcrypto -lcjson

# so do a model of the zone, and what looks a zone through from outside

$(BUILD)/unit/model_test $(WALK): $(BUILD)/unit/%: t/unit/%.c t/unit/unit.h \
    $(BUILD)/module.a $(BUILD)/libnginx.so
	mkdir -p $(BUILD)/unit
	$(CC) $(CFLAGS) $(WARNINGS) -fPIC $(INCLUDES) -o $@ $< \
	    $(BUILD)/module.a -L $(BUILD) -Wl,-rpath,$(CURDIR)/$(BUILD) \
	    -lnginx -lssl -lcrypto -lcjson

# packages are installed once, as root or with sudo

install-deps = missing=; for p in $(1); do \
	    dpkg-query -W -f '$${Status}' $$p 2>/dev/null \
	        | grep -q 'ok installed' || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then \
	    sudo=; [ $$(id -u) = 0 ] || sudo=sudo; \
	    echo "installing$$missing"; \
	    $$sudo apt-get update -qq && $$sudo env \
	        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
	        --no-install-recommends $$missing > /dev/null || exit 1; fi; \
	mkdir -p $(BUILD); touch $@

$(BUILD)/.build-deps:
	@$(call install-deps,$(BUILD_DEPS))

$(BUILD)/.run-deps:
	@$(call install-deps,$(RUN_DEPS))

$(BUILD)/.test-deps: Makefile
	@$(call install-deps,$(TEST_DEPS))

$(BUILD)/.valgrind-deps:
	@$(call install-deps,$(VALGRIND_DEPS))

$(BUILD)/.fuzz-deps:
	@$(call install-deps,$(FUZZ_DEPS))

$(BUILD)/.builds-deps:
	@$(call install-deps,$(BUILDS_DEPS))

$(BUILD)/.lint-deps: Makefile
	@$(call install-deps,$(LINT_DEPS))

# promtool alone: its package would start a service

$(BUILD)/promtool: | $(BUILD)/.test-deps
	@cd $(BUILD) && rm -f prometheus_*.deb \
	&& { apt-get download -qq prometheus 2>/dev/null \
	    || { apt-get update -qq; apt-get download -qq prometheus; }; } \
	&& dpkg-deb -x prometheus_*.deb prometheus \
	&& mv prometheus/usr/bin/promtool promtool.new \
	&& rm -rf prometheus prometheus_*.deb && mv promtool.new promtool

$(BUILD)/.bench-deps:
	@$(call install-deps,$(BENCH_DEPS))

$(BUILD)/.deb-deps:
	@$(call install-deps,$(DEB_DEPS))

$(BUILD)/.try-deps:
	@$(call install-deps,$(TRY_DEPS))

# a machine may have a Node.js that is no package

$(BUILD)/.node-deps: package.json package-lock.json
	@command -v npm > /dev/null || { \
	    $(call install-deps,nodejs npm); }
	npm ci --silent --no-audit --no-fund
	@mkdir -p $(BUILD); touch $@

test: $(BUILD)/.test-deps $(BUILD)/.node-deps $(BUILD)/promtool $(MODULE) \
    $(UNITS) $(PRELOADS) $(WALK) $(FUZZERS)
	NGINX=$(NGINX) QUICKBLOX_MODULE=$(CURDIR)/$(MODULE) \
	    QUICKBLOX_UNITS=$(CURDIR)/$(BUILD)/unit NGINX_PRELOAD="$(NGINX_PRELOAD)" \
	    QUICKBLOX_PROMTOOL=$(CURDIR)/$(BUILD)/promtool \
	    $(PROVE) $(TESTS)

test-long:
	QUICKBLOX_LONG=1 $(MAKE) test

# the module built with sanitizers, their libraries preloaded into nginx

SANITIZE    = -fsanitize=address,undefined -fno-omit-frame-pointer

test-asan:
	$(MAKE) BUILD=$(BUILD)/asan CFLAGS="-g -O1 $(SANITIZE)" \
	    NGINX_PRELOAD="$$($(CC) -print-file-name=libasan.so) \
	    $$($(CC) -print-file-name=libubsan.so)" test

# of this run alone; gcov comes with gcc

coverage:
	@mkdir -p $(BUILD)/coverage
	find $(BUILD)/coverage -name '*.gcda' -delete
	$(MAKE) BUILD=$(BUILD)/coverage CC="$(CC) --coverage" \
	    CFLAGS="-g -O0" test
	t/coverage $(BUILD)/coverage 95 85

# a definite loss is what nothing points to any more when a process ends

VALGRIND    = valgrind -q --suppressions=$(CURDIR)/t/valgrind.supp \
              --trace-children=yes --leak-check=full --num-callers=30 \
              --show-leak-kinds=definite --errors-for-leak-kinds=definite \
              --error-exitcode=99

test-valgrind: $(BUILD)/.valgrind-deps
	QUICKBLOX_VALGRIND="$(VALGRIND)" $(MAKE) test

test-debug:
	QUICKBLOX_DEBUG=1 $(MAKE) test

builds: $(BUILD)/.build-deps $(BUILD)/.builds-deps
	BUILD=$(BUILD)/builds t/builds $(NGINX_SRC)

# libFuzzer's targets, two at a time with -j2: what they find is in build/fuzz,
# and in its corpus what has led to new code

FUZZ_SECONDS = 60
FUZZ_FLAGS   = -timeout=10 -print_final_stats=1 -max_total_time=$(FUZZ_SECONDS)

fuzz: $(BUILD)/.fuzz-deps
	$(MAKE) BUILD=$(BUILD)/fuzz CC=clang FUZZ_MAIN=-fsanitize=fuzzer \
	    CFLAGS="-g -O1 $(SANITIZE) -fsanitize=fuzzer-no-link \
	    -fno-sanitize-recover=all" fuzz-targets

fuzz-targets: $(patsubst $(BUILD)/unit/%_fuzz, fuzz-%, $(FUZZERS))

fuzz-%: $(BUILD)/unit/%_fuzz
	@mkdir -p $(BUILD)/corpus/$*
	@dict=; [ ! -f fuzz/dict/$* ] || dict=-dict=fuzz/dict/$*; \
	$< $(FUZZ_FLAGS) $$dict -artifact_prefix=$(BUILD)/$*- \
	    $(BUILD)/corpus/$* fuzz/corpus/$* > $(BUILD)/$*.log 2>&1 \
	    || { cat $(BUILD)/$*.log; exit 1; }
	@echo "$*: $$(sed -n 's/.*DONE *//p; s/stat::number_of_//p' \
	    $(BUILD)/$*.log | tr -s '\n ' ' ')"

# the files that have changed, each by four programs; nginx's headers are those
# of a system, of which nothing is said; the settings .clang-tidy and .cppcheck
# say what is left out and why

LINT_FLAGS  = $(addprefix -isystem, $(NGINX_DIRS)) \
              -I ngx_http_quickblox_module -O2 -fPIC -Wshadow \
              -Wundef -Wvla -Wpointer-arith -Wformat-security \
              -Wmissing-prototypes -Wstrict-prototypes -Wold-style-definition

# gcc 12 does not see that a loop has filled an array, nor that a test has
# crashed, and so failed, when a function that prepares its input fails; a file
# that is open when a program ends is closed

LINT_GCC    = -fanalyzer -Wno-analyzer-use-of-uninitialized-value
LINT_CLANG  = -Wcomma -Wassign-enum -Wunreachable-code \
              -Wconditional-uninitialized

$(BUILD)/lint/t/unit/%: LINT_GCC += -Wno-analyzer-malloc-leak \
                                    -Wno-analyzer-null-argument \
                                    -Wno-analyzer-file-leak

# what malloc() is to give others is not lost

$(BUILD)/lint/t/preload/heap: LINT_GCC += -Wno-analyzer-malloc-leak

LINT_DIRS   = ngx_http_quickblox_module t/unit t/preload fuzz
LINT_C      = $(wildcard $(addsuffix /*.c, $(LINT_DIRS)))
LINT_H      = $(wildcard $(addsuffix /*.h, $(LINT_DIRS)))

# a secret is compared by CRYPTO_memcmp() alone

LINT_SECRET = \<(ngx_)?(mem|str)[a-z]*cmp\([^";]*\<(token|secret|password|digest)\>

LINT_TEXT   = $(LINT_C) $(LINT_H) .ci/run fuzz/library.pl t/deb \
              t/quickblox-api t/run $(wildcard t/*.t t/lib/*.pm t/lib/*/*.pm)

lint: $(patsubst %.c, $(BUILD)/lint/%, $(LINT_C)) $(BUILD)/.lint-deps
	@cppcheck --quiet --error-exitcode=1 --suppressions-list=.cppcheck \
	    --enable=warning,performance,portability,style \
	    $(addprefix -I, $(LINT_DIRS) $(BUILD)/nginx/objs) $(LINT_DIRS)
	@! LC_ALL=C.UTF-8 grep -nP '\t|[ \r]$$|.{80}' $(LINT_TEXT)
	@! grep -nE '$(LINT_SECRET)' ngx_http_quickblox_module/*.c

$(BUILD)/lint/fuzz/%: $(SOURCES)

$(BUILD)/lint/%: %.c $(LINT_H) .clang-tidy Makefile \
    $(BUILD)/nginx/objs/Makefile | $(BUILD)/.lint-deps
	@mkdir -p $(@D)
	@gcc $(WARNINGS) $(LINT_FLAGS) $(LINT_GCC) -c -o /dev/null $<
	@clang $(WARNINGS) $(LINT_FLAGS) $(LINT_CLANG) -fsyntax-only $<
	@clang-tidy --quiet $< -- $(LINT_FLAGS) > $@.log 2>&1 \
	    || { cat $@.log; exit 1; }
	@touch $@

# results are in bench/results, and explained in docs/performance.md

BENCH       = $(BUILD)/bench/send $(BUILD)/bench/floor.so
RIG         = NGINX=$(NGINX) QUICKBLOX_MODULE=$(CURDIR)/$(MODULE) \
              BENCH_BUILD=$(CURDIR)/$(BUILD)/bench

$(BUILD)/bench/send: bench/send.c
	mkdir -p $(BUILD)/bench
	$(CC) $(CFLAGS) $(WARNINGS) -o $@ $<

$(BUILD)/bench/%.so: bench/%.c $(BUILD)/nginx/objs/Makefile
	mkdir -p $(BUILD)/bench
	$(CC) $(CFLAGS) $(WARNINGS) $(INCLUDES) -fPIC -shared -o $@ $<

bench: $(BUILD)/.bench-deps $(MODULE) $(BENCH)
	$(RIG) bench/run

bench-instructions: $(BUILD)/.bench-deps $(MODULE) $(BENCH)
	$(RIG) bench/instructions

run: $(BUILD)/.run-deps $(MODULE)
	@NGINX=$(NGINX) QUICKBLOX_MODULE=$(CURDIR)/$(MODULE) t/run

# nginx that was not told where its modules are has them below its prefix

MANUAL      = man/ngx_http_quickblox_module.7
MANDIR      = /usr/local/share/man
nginx-told  = $(patsubst --$(1)=%,%, \
              $(filter --$(1)=%, $(shell $(NGINX) -V 2>&1)))
MODULES_DIR = $(or $(call nginx-told,modules-path), \
              $(or $(call nginx-told,prefix),/usr/local/nginx)/modules)

install: $(MODULE)
	install -D -m 644 -t $(DESTDIR)$(MODULES_DIR) $(MODULE)
	install -D -m 644 -t $(DESTDIR)$(MANDIR)/man7 $(MANUAL)

# in a copy, as debhelper writes into the tree that it builds; not below
# build/, whose path may be one that nginx's configure mangles

DEB         = $(BUILD)/libnginx-mod-http-quickblox
DEB_FILES   = config debian docs examples man ngx_http_quickblox_module \
              CHANGES README.md

deb: $(BUILD)/.deb-deps
	@dir=$$(mktemp -d /tmp/quickblox-XXXXXXXX) \
	&& trap "rm -rf $$dir" EXIT && trap 'exit 1' INT TERM \
	&& mkdir $$dir/module && cp -a $(DEB_FILES) $$dir/module \
	&& { (cd $$dir/module && dpkg-buildpackage -b -us -uc) > $$dir/log 2>&1 \
	    || { cat $$dir/log; exit 1; }; } \
	&& rm -f $(DEB)_*.deb $(DEB)-dbgsym_*.deb && cp $$dir/*.deb $(BUILD) \
	&& ls $(DEB)_*.deb

# as root or with sudo; the shell waits for what has lost its parent

deb-try: deb $(BUILD)/.try-deps
	lintian --allow-root --fail-on error,warning $(DEB)*.deb
	@sudo=; [ $$(id -u) = 0 ] || sudo=sudo; $$sudo unshare --mount --pid \
	    --fork --kill-child --mount-proc sh -c 't/deb $(DEB)_*.deb; exit'

clean:
	rm -rf $(BUILD)

help:
	@sed '/^#/!Q; s/^# \{0,1\}//' Makefile

.PHONY: all test test-long test-asan test-valgrind test-debug coverage lint \
        builds fuzz fuzz-targets bench bench-instructions run install deb \
        deb-try clean help
