"""Audits of private plans: a lower bound on epsilon, from canaries in the code path that a plan uses."""
