"""The pure heart: encodings, models, features, aggregation and analytics.

Nothing here reads a file, a clock, a socket or hidden randomness, so every value can be recomputed by anyone who holds
the same inputs. Floor 0: imports numpy, rfc8785 and the standard library only.
"""
