"""The site's side of secure aggregation: its steps, what it adds to a sum, and the models that it follows."""
