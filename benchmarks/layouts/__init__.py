"""Files and layouts that people have, each written by its own writer and read by its own reader."""
