"""The adapter to Flower's server side: the only place at the centre where flwr internals are touched."""
