"""What arrives, and what comes after the answer: drift, ids, labels, quality, the store."""
