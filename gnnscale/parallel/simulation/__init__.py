"""What predicts how long a schedule takes, and draws it."""
