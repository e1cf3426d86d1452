"""What `make bench` runs: figures as ratios, each pair measured side by side in one run.

Every file measures one thing and returns `Figure`s; `__main__` prints them. Nothing here is part of the program.
"""
