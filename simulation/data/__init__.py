"""The demo's loans, with their licence and provenance."""
