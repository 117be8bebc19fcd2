"""What two or more rooms need and whose boundary is clear. Imports nothing of `weir`."""
