"""What `speed.py` and `scaling.py` are made of: rows, statistics, environments, children, tables."""
