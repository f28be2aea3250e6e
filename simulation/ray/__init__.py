"""The simulated federation on Flower's own simulation engine, which is Ray: several cores, or several machines, in real time."""
