"""Recorded judgements evaluated again, by whoever has CEL: that the rules come to the recorded outcomes by the recorded facts."""

from __future__ import annotations

from coordinator.governance.policies.judge import compiled
from protos.log_policies import PolicyStory
from strategies.errors import Refused


def recheck(story: PolicyStory) -> int:
    """Judge everything again that the log tells of; how many judgements that were. Raises Refused at the first outcome that differs."""
    for recorded in story.told:
        pack = story.published[recorded.pack]
        again = compiled(pack).judge(recorded.subject, recorded.facts).outcomes()
        for rule, outcome in recorded.outcomes().items():
            if again[rule] != outcome:
                raise Refused(
                    f"{recorded.subject.words} is said to come to {outcome} by rule {rule} of pack {pack.ref}, and comes to {again[rule]}: the"
                    " coordinator judged by something else, or by another version of CEL"
                )
    return len(story.told)
