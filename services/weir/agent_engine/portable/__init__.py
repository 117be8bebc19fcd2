"""A tenant's configuration as a document that can be carried elsewhere."""
