"""The room's SQL: one noun a module."""
