"""The world that all banks share: countries and the directory of merchants."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

from simulation.payments.rows import Flags, Floats, Integers
from simulation.payments.streams import chance, stream

COUNTRIES: Final = (
    ("DE", "EUR", 51.2, 10.4),
    ("FR", "EUR", 46.6, 2.5),
    ("GB", "GBP", 54.0, -2.5),
    ("IT", "EUR", 42.8, 12.6),
    ("ES", "EUR", 40.2, -3.6),
    ("NL", "EUR", 52.2, 5.5),
    ("PL", "PLN", 52.1, 19.4),
    ("SE", "SEK", 62.0, 15.0),
    ("CH", "CHF", 46.8, 8.2),
    ("RO", "RON", 45.9, 25.0),
    ("TR", "TRY", 39.0, 35.2),
    ("US", "USD", 39.8, -98.6),
    ("CN", "CNY", 35.9, 104.2),
    ("AE", "AED", 24.0, 54.0),
)
"""Code (ISO 3166-1), currency (ISO 4217), and latitude and longitude of about the middle, in degrees."""
HOMES: Final = 9
"""The first countries are where banks are."""

CATEGORIES: Final = (
    ("groceries", 35.0, 0.6, 0.03, 10.0),
    ("restaurants", 28.0, 0.6, 0.05, 7.0),
    ("fuel", 55.0, 0.4, 0.0, 3.0),
    ("transport", 12.0, 0.8, 0.4, 4.0),
    ("clothing", 60.0, 0.7, 0.5, 2.5),
    ("electronics", 160.0, 1.0, 0.6, 1.2),
    ("jewellery", 220.0, 0.9, 0.4, 0.3),
    ("travel", 240.0, 0.9, 0.8, 0.8),
    ("digital", 9.0, 0.9, 1.0, 4.0),
    ("gift-cards", 40.0, 0.6, 0.9, 0.5),
    ("health", 40.0, 0.7, 0.1, 1.5),
    ("services", 90.0, 0.9, 0.5, 1.0),
)
"""Name, median ticket in EUR, spread of its logarithm, share of payments online, and how much of all payments it gets; all assumed."""
_NAMES: Final = [each[0] for each in CATEGORIES]
BURNERS: Final = [_NAMES.index(each) for each in ("electronics", "jewellery", "gift-cards")]
"""What stolen cards are emptied at."""
SMALL: Final = [_NAMES.index(each) for each in ("digital", "transport")]
_FRONTS: Final = [_NAMES.index(each) for each in ("electronics", "jewellery", "services")]

_MERCHANTS: Final = 3_000
COLLUDING_A_SEASON: Final = 6
_YOUNG: Final = 0.12
_EARTH_KM: Final = 6371.0


@dataclass(frozen=True, slots=True)
class Directory:
    """m merchants: `category`, `country` (places), `opened` (day, may be negative), `weight` (relative, of ordinary payments), all (m,)."""

    category: Integers
    country: Integers
    opened: Integers
    weight: Floats
    ordinary: int
    """The first so many; those after them collude, `COLLUDING_A_SEASON` for each season."""

    @property
    def ticket(self) -> Floats:
        """(m,) the median ticket of each one's category, in EUR: public."""
        return np.array([each[1] for each in CATEGORIES])[self.category]

    def of(self, chosen: Flags) -> tuple[Integers, Floats]:
        """Places of some merchants, and their weights, which add up to 1."""
        places = np.flatnonzero(chosen)
        return places, self.weight[places] / self.weight[places].sum()

    def colluding(self, season: int) -> Integers:
        """Places of those that collude in a season."""
        first = self.ordinary + season * COLLUDING_A_SEASON
        return np.arange(first, first + COLLUDING_A_SEASON)


@lru_cache(maxsize=4)
def directory(seed: int, days: int, seasons: int, season_days: int) -> Directory:
    """All merchants that there are. Some open while payments go on; those that collude open shortly before their season."""
    source = stream(seed, "merchants")
    shares = np.array([each[4] for each in CATEGORIES])
    category = source.choice(len(CATEGORIES), _MERCHANTS, p=shares / shares.sum())
    country = np.where(
        chance(source, 0.8, _MERCHANTS),
        source.integers(0, HOMES, _MERCHANTS),
        source.integers(0, len(COUNTRIES), _MERCHANTS),
    )
    young = chance(source, _YOUNG, _MERCHANTS)
    opened = np.where(
        young, source.integers(-200, days, _MERCHANTS), source.integers(-4000, -200, _MERCHANTS)
    )
    weight = source.pareto(1.3, _MERCHANTS) + 0.05
    fronts = seasons * COLLUDING_A_SEASON
    begins = np.repeat(np.arange(seasons) * season_days, COLLUDING_A_SEASON)
    return Directory(
        category=np.append(category, source.choice(_FRONTS, fronts)),
        country=np.append(country, source.integers(0, len(COUNTRIES), fronts)),
        opened=np.append(opened, begins - source.integers(10, 70, fronts)),
        weight=np.append(weight, np.full(fronts, 0.02)),
        ordinary=_MERCHANTS,
    )


@lru_cache(maxsize=1)
def distances_km() -> Floats:
    """(countries, countries): along a great circle between their middles."""
    at = np.radians(np.array([each[2:] for each in COUNTRIES], dtype=np.float64))
    latitude, longitude = at[:, 0], at[:, 1]
    half = (
        np.sin((latitude[:, None] - latitude) / 2) ** 2
        + np.cos(latitude[:, None]) * np.cos(latitude) * np.sin((longitude[:, None] - longitude) / 2) ** 2
    )
    found: Floats = 2 * _EARTH_KM * np.arcsin(np.sqrt(half))
    return found
