"""What is kept of a benchmark (result.json), and how it is shown: the table, the folder, the HTML page.

A new column of the table or key of result.json belongs here. May import: everything up to measure.
"""
