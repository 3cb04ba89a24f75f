"""`sdedit run --sweep`: every combination of some values of options."""
