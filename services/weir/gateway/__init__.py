"""THE DOOR. Who are you, may you, how much; then hand on. Holds no engine."""
