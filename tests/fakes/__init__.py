"""Fakes at the edge of the world."""
