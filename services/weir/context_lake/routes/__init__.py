"""The room's URLs: one noun a module."""
