"""KaMinPar and METIS, run in a process of their own."""
