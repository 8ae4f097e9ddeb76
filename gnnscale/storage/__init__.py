"""Files that are whole or absent, arrays in files, scratch space, locks and free memory."""
