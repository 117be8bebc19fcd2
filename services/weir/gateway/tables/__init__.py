"""The room's SQL: one table a module."""
