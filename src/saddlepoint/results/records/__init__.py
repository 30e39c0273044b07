"""What records say: their types, verdicts, brackets, comparisons. No torch."""
