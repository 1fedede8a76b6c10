"""One file for each class of upstream's; how to write one is told in ``family.py``."""
