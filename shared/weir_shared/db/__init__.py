"""The ledger: Postgres, one short transaction a unit of work, two walls between tenants."""
