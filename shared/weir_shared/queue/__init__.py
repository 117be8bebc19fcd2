"""The doorbell: Redis only says "look"; what there is to do stands in Postgres."""
