"""What a federation of so many sites and so many parameters needs: sums of a few terms of the protocol, fitted to measurements."""
