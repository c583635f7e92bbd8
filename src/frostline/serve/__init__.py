"""The only inference door, and what stands on it."""
