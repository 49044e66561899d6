// ObsIngest: see docs/ARCHITECTURE.md.
