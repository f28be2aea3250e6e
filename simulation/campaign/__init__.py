"""Thousands of federations, each under its own misfortune: what must always hold is checked after every step."""
