"""What runs a schedule: one process, or one process a device."""
