"""report.html, made from result.json alone: one file with its charts as SVG, without scripts."""
