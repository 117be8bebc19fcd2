"""The scripted demo model: a small program, no language model, that speaks the OpenAI-compatible wire."""
