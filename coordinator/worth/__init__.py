"""What a version is worth in money, and what it cost: counts that are released, times a matrix that the bank states, line by line."""
