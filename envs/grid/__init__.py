"""MiniGrid, one environment at a time and in batches."""
