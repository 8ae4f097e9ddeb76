"""Tables in text: the dialect recognised, the rows read in a stream."""
