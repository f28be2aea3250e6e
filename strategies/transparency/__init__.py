"""The mathematics of a log that anyone can verify: tree hashes, proofs, and the signed note that states a tree's head."""
