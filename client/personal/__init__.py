"""Personal models: made at a site from its own rows and a shared model, after or beside the rounds, and kept there.

1. Nothing that answers the centre imports this room or reads what it writes. What it computes has no noise, and would break the guarantee of
   every later round that it shaped.
2. Rows that the plan holds out are neither trained nor tuned on. They have the last word, and how often it was asked for is counted.
3. What is offered has beaten the shared model on rows that chose nothing, by more than chance; where rows are too few to tell, nothing is said.
4. The centre may hear that this site personalises a model, if the site's configuration says so, and never what came of it.
"""
