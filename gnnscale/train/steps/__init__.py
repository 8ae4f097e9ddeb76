"""What a step of training consists of."""
