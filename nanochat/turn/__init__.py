"""What a turn is: commands, limits, the queue, the model's steps, the tools it calls; and what a job's fire does.

Knows sessions and the model's interface. Does not know where a message came from, nor where its answer is shown.
"""
