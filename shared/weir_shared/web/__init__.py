"""What every HTTP service of the platform shares: how it is assembled, answers errors and is served."""
