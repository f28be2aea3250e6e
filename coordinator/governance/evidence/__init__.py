"""Evidence of registered versions: facts with the log entries that they come from, what people say, and the documents made of both."""
