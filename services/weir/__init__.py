"""The platform's services: one room a package, and the only door between them is HTTP."""

__version__ = "0.1.0"
