"""The command line of people who use a lake: a client of the platform's HTTP, which imports none of its rooms."""
