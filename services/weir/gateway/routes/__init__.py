"""The gateway's own URLs."""
