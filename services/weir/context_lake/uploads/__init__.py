"""Files that tenants send: taking them in, looking at them, keeping them, and collecting what is nobody's."""
