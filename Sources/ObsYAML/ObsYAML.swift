// ObsYAML: see docs/ARCHITECTURE.md.
