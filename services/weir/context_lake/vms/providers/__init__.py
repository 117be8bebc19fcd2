"""Where runtimes live, one module each."""
