"""What the studio's API takes and gives, one noun a module."""
