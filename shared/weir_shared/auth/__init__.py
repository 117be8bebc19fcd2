"""Who calls, what they may do, and how one service proves it to the next."""
