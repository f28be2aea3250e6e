"""`covenant desk`: where an officer looks, checks and signs, on a machine of their own."""
