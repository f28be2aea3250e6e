"""Secure aggregation: a coordinator learns the sum of what its sites send, and nothing else. Pure: no I/O, no clock, no hidden chance.

`docs/secagg.md` has the protocol in numbered steps.
"""
