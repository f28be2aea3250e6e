"""Thousands of clients on one machine: cohorts drawn from populations that are functions, trained in stacked slices (docs/adr/0039-cohorts.md)."""
