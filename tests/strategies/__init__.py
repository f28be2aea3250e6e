"""Tests of the pure heart: encodings, models, features, aggregation and server optimisers."""
