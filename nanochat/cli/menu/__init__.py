"""The commands by subject: their names, options and help.

Knows words. Does not know what a command does: each loads its own room when it runs, so that `--help` is at once there.
"""
