# The two commands a newcomer needs: `make run` and `make test`. Everything else is here for those who work on it.
WALLS := --explicit-target-dependency-import-check error
SOURCES := Package.swift Sources Storage Tests Benchmarks examples

.PHONY: help deps deps-test build run test fuzz tsan lint walls demo bench proto clean

help:
	@echo 'make run    install what is missing, build, start obsd with its data in ./data (foreground)'
	@echo 'make test   install what is missing, run all tests'
	@echo 'make demo   obsd + example shop + node-exporter + nginx: real metrics, logs and traces within a minute'
	@echo 'make fuzz   every decoder under libFuzzer, 2 minutes each     make tsan  writers, readers, flushes under the thread sanitizer'
	@echo 'make build  .build/release/{obsd,obsq}     make lint  format check     make bench  figures, see Benchmarks/'

deps:
	@deploy/deps build

deps-test:
	@deploy/deps test

build: deps
	swift build -c release $(WALLS) --product obsd
	swift build -c release $(WALLS) --product obsq

run: build
	exec .build/release/obsd --data data $(ARGS)

test: deps-test
	swift build --build-tests $(WALLS)
	@rm -f .build/tests.xml
	@status=0; swift test --skip-build --disable-swift-testing --parallel --num-workers 4 --xunit-output .build/tests.xml || status=$$?; \
		sed -n 's/.*<testsuite .*errors="\([0-9]*\)" tests="\([0-9]*\)" failures="\([0-9]*\)".*/\1 \2 \3/p' .build/tests.xml \
		| awk '{ e += $$1; t += $$2; f += $$3 } END { printf "%d passed, %d failed\n", t - f - e, f + e }'; exit $$status

# SECONDS a target, TARGETS by name (all without any); see Tests/Fuzz/README.md.
SECONDS ?= 120
fuzz: deps
	@FUZZ_SECONDS=$(SECONDS) Tests/Fuzz/run $(TARGETS)

# The stress test under the thread sanitizer. Another build of everything, so not part of `make test`.
tsan: export OBS_TESTS = ObsEngineTests
tsan: deps-test
	swift build --product obsPackageTests --sanitize=thread --scratch-path .build-tsan
	OBS_STRESS_ROUNDS=$${OBS_STRESS_ROUNDS:-200} TSAN_OPTIONS=halt_on_error=1 SWIFT_BACKTRACE=enable=no \
		swift test --skip-build --sanitize=thread --scratch-path .build-tsan --disable-swift-testing --filter StressTests

lint:
	swift format lint --strict --recursive $(SOURCES)
	@! grep -rnE '^(package |internal |public |private )?import Foundation' Sources Storage --include='*.swift' | grep -vE '^Sources/(obsq|ObsSDK)/' \
		|| { echo 'Foundation is not for the daemon: it costs 50 MB and its types are slow'; exit 1; }

demo: build
	examples/shop/demo

bench: deps
	@deploy/deps bench
	Benchmarks/run

proto:
	cd Sources/CProtobufs && protoc-c --c_out=. -I proto proto/*.proto

clean:
	rm -rf .build .build-fuzz .build-tsan
