"""Servers of the Model Context Protocol: which a tenant has, and how agents use their tools."""
