"""What Covenant assumes of flwr: these fail loudly when flwr moves."""
