"""A small use case with everything that ingest must cope with: three formats, a local clock, an optional source."""
