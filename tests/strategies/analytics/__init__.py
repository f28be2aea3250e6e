"""Tests of the statistics that are sums over sites."""
