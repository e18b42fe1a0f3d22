"""What one process knows of itself and of its neighbours: who is alive, when to wait, whom to wake.

Knows the machine. Does not know what any process is about.
"""
