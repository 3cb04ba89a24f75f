"""Pictures in a terminal: in which way it shows them, what has to be written for that, and where."""
