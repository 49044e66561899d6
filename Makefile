# placeholder, see README
build:
	swift build -c release --explicit-target-dependency-import-check error
