"""Knowledge: files that agents look things up in."""
