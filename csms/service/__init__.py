"""Load, decide, save, answer: what happens on each report and on the clock."""
