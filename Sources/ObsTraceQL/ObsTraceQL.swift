// ObsTraceQL: see docs/ARCHITECTURE.md.
