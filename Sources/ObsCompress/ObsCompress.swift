// ObsCompress: see docs/ARCHITECTURE.md.
