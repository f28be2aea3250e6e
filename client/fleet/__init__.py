"""The adapter to Flower's fleet API: the only place at the site where flwr internals are touched."""
