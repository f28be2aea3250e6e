"""In-process federations, demo data and baselines: may import everything below."""
