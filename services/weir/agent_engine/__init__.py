"""The studio: agents, their models and tools, and the turns that they take, told as events."""
