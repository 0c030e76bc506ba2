"""What one build remembers for the next. Losing it costs time, never truth."""
