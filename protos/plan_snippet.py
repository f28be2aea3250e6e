"""The numbers of a plan that calibration has fitted, as lines to paste into it."""

from __future__ import annotations

import json
from typing import Final

from protos.plan_calibration import Calibration, values_of
from protos.plan_dials import Vary

_TRAINING: Final = {
    Vary.NOISE: set[str](),
    Vary.ROUNDS: {"rounds", "every"},
    Vary.SAMPLING: {"expected_batch"},
}


def snippet(found: Calibration) -> str:
    """YAML: noise and limit under `privacy`, and what of training and evaluation was fitted."""
    sections: dict[str, list[str]] = {"privacy": []}
    inner: dict[str, list[str]] = {}
    for (section, *keys), value in values_of(found.plan).items():
        text = f"{keys[-1]}: {json.dumps(value)}"
        if section == "privacy":
            inner.setdefault(keys[0], []).append(text)
        elif keys[-1] in _TRAINING[found.vary]:
            sections.setdefault(section, []).append(f"  {text}")
    sections["privacy"] = [f"  {key}: {{{', '.join(texts)}}}" for key, texts in inner.items()]
    return "\n".join(line for section, lines in sections.items() for line in (f"{section}:", *lines))
