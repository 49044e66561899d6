// ObsPromQL: see docs/ARCHITECTURE.md.
