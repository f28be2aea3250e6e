"""Statistics that are sums over sites: what a site computes on its rows, and what the total says."""
