"""Tests over the real engine: a real SuperLink, real agents, real processes."""
