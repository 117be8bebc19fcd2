"""Models: what a tenant has configured, and one small client a wire protocol."""
