// ObsAPI: see docs/ARCHITECTURE.md.
