"""What needs an officer now: one module a part of the house, each with queries that are bounded, and shown to whom the API would show the same."""
