"""The control API: what officers do from their own machines, over gRPC with mutual TLS."""
