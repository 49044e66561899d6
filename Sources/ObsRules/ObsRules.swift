// ObsRules: see docs/ARCHITECTURE.md.
