"""Benchmarks that users size their machines with; every ratio above 1 means that this project is better."""
