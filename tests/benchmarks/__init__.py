"""What the platform costs, as ratios of one run: these machines are shared, absolute figures prove nothing."""
