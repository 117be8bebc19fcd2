"""How one service asks another, on its caller's behalf."""
