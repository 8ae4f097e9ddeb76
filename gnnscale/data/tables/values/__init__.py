"""What cells of node tables become: classes with their names, and features by a recipe."""
