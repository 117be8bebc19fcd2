"""`weir up`: the whole platform on one machine, with its own Postgres and Valkey.

`up` tells the story; `supervisor` keeps the processes alive, `postgres` and `valkey` describe the two servers, `plan` the services.
"""
