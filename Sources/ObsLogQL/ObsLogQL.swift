// ObsLogQL: see docs/ARCHITECTURE.md.
