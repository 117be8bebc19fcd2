"""The life of a tenant's runtime: wished for, booted, used, hibernated, lost, brought back."""
