"""The demo: one plan, one contract, four regional subsidiaries."""
