# The two commands a newcomer needs: `make run` and `make test`. Everything else is here for those who work on it.
WALLS := --explicit-target-dependency-import-check error
SOURCES := Package.swift Sources Storage Tests Benchmarks examples
PROMQLTEST := $(abspath ../shared/promqltest)

.PHONY: help deps deps-test build run test lint walls demo bench proto clean

help:
	@echo 'make run    install what is missing, build, start obsd with its data in ./data (foreground)'
	@echo 'make test   install what is missing, run all tests'
	@echo 'make demo   obsd + example shop + node-exporter + nginx: real metrics, logs and traces within a minute'
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
	OBS_PROMQLTEST_DIR="$${OBS_PROMQLTEST_DIR-}" swift test --skip-build --parallel --num-workers 4

lint:
	swift format lint --strict --recursive $(SOURCES)
	@! grep -rnE '^(package |internal |public |private )?import Foundation' Sources Storage --include='*.swift' | grep -vE '^Sources/(obsq|ObsSDK)/' \
		|| { echo 'Foundation is not for the daemon: it costs 50 MB and its types are slow'; exit 1; }

demo: build
	examples/shop/demo

bench: deps-test
	Benchmarks/run

proto:
	cd Sources/CProtobufs && protoc-c --c_out=. -I proto proto/*.proto

clean:
	rm -rf .build
