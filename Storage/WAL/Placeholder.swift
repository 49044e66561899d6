// see Storage/README.md.
