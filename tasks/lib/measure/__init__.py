"""Numbers, and what may be concluded from them: load, rounds, equality of answers, statistics, the verdict.

A new statistic belongs here; how it is shown belongs in results. May import: everything up to engines.
"""
