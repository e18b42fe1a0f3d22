"""From what came in to its answer, once, whatever dies: rows are claimed, answered, and brought.

Knows the ledger's rows and the Handler behind them. Does not know what a turn does.
"""
