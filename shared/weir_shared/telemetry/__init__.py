"""What the platform tells its operator: logs without secrets, metrics without tenants."""
