"""How fast machines are: the one at hand as measured, others as their pages say."""
