"""What an array that a user gave is: decided here once, in words, for every door.

`nodes` tells masks from ids. Where two readings are possible none is chosen: the error says both,
and what to write for either.
"""
