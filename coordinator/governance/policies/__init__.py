"""Policy packs: rules in CEL over recorded facts, published by officers, and what they say of plans and models."""
