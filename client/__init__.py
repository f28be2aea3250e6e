"""The agent that a subsidiary runs next to its own data. Never imports `coordinator`.

A request comes in through `fleet` and `agent`, and goes to the `participant`, which answers it: `admission` judges the plan, `transparency` what the
log says of its launch, `accounts` what it costs, `training` computes, `plain` and `secure` say what leaves, and `journal` has it on disk before it
does. `enrolment` makes a site, `bootstrap` opens one, `cli` is for its people.
"""
