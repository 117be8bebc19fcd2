"""Where a dataset's rows come from: one module a connector, and what all file listings share."""
