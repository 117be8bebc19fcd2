"""The stacks: one tenant's SQL engine in a process of its own, which its host may kill at any moment."""
