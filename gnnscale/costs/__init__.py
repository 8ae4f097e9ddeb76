"""What work costs, in operations, bytes and seconds."""
