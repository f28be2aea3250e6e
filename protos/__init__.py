"""The wire, and the documents that centre and sites exchange: everything both sides must read alike."""
