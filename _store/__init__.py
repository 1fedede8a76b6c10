"""What ``cairn.runs`` stands on: the disk, checkpoints, and the names a file may use. Import from ``cairn.runs``."""
