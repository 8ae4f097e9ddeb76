"""Commands about what will be: a plan, and the machine that its seconds are of."""
