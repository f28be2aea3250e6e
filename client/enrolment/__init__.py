"""How a site comes into a federation: what it makes for itself, and what the federation's officers certify."""
