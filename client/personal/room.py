"""What the commands do: one site's rows, its shared models and its shelf, brought together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from client.data import read_source
from client.personal.making import choose, gate, seed_of
from client.personal.parts import Parts, divide, holdout_digest
from client.personal.shelf import Card, PersonalModel, Shelf
from client.personal.verdict import Verdict, judge
from client.shared_models import SharedModel, SharedModels, read_exported
from protos.contract import Contract
from protos.documents import load_document
from protos.keys import Signer
from protos.personal import PersonalStatement, state_personal
from protos.site import Personal, SiteConfig
from protos.site_data import DataSource
from strategies.errors import Refused, UsageError
from strategies.ids import Digest


@dataclass(frozen=True, slots=True)
class Room:
    """The personal models of the site of `config`."""

    config: SiteConfig
    clock: Callable[[], datetime]

    @property
    def settings(self) -> Personal:
        """What the site admits. Raises Refused where it admits nothing."""
        if self.config.personal is None:
            raise Refused(
                "`personal` is not in this site's configuration, so nothing personal is made or kept here; add `personal: {folder: personal}` to allow it"
            )
        return self.config.personal

    @property
    def shelf(self) -> Shelf:
        """Where personal models are kept."""
        return Shelf(self.settings.folder / "own", self.clock)

    def shared(self, name: str) -> SharedModel:
        """The shared model of a finished run, by plan, run or digest, or the one that was exported to a folder."""
        folder = Path(name)
        if folder.is_dir():
            return read_exported(folder)
        return SharedModels(self.settings.folder / "shared").find(name)

    def make(self, name: str, tell: Callable[[str], None]) -> Card:
        """Make a personal model of the shared one `name`. Raises Refused where the rows are too few."""
        settings, shared = self.settings, self.shared(name)
        source, shelf, site = self._source(shared), self.shelf, self.config.site
        shelf.ask(shared)
        parts = self._parts(shared, source, settings)
        chosen = choose(shared, parts, site=site, threads=self.config.run.cpu_threads, tell=tell)
        population = self.config.population_of(source)
        looks = shelf.look("gate", holdout_digest(shared, population), chosen.blend.digest, parts.gate)
        gain = gate(chosen, parts, seed=seed_of(shared, site, "gate"), looks=looks)
        return shelf.keep(shared, chosen, parts, gain, looks, site=site, population=population)

    def compare(self, name: str) -> tuple[PersonalModel, Verdict]:
        """The last word on a personal model, by plan, run or digest of its shared one."""
        shelf = self.shelf
        model = shelf.load(shelf.find(name))
        source = self._source(model.shared)
        parts = self._parts(model.shared, source, self.settings)
        parts.held_out.require_enough()
        holdout = holdout_digest(model.shared, self.config.population_of(source))
        looks = shelf.look("held-out", holdout, model.card.model, parts.held_out)
        found = judge(
            model.shared, model.blend, model.local, parts.held_out, site=self.config.site, looks=looks
        )
        return model, found

    def state(self, name: str, identity: Signer, federation: Digest) -> PersonalStatement:
        """What the centre may hear of a model that was asked for, whatever came of it. Raises Refused where the site does not tell."""
        if not self.settings.tell_registry:
            raise Refused(
                "`personal.tell_registry` is not set at this site, so the centre is not told; whoever owns that decision sets it to true"
            )
        shared = self.shelf.find(name)
        return state_personal(federation, self.config.site, shared, identity, at=self.clock())

    def _source(self, shared: SharedModel) -> DataSource:
        if barred := sorted(set(shared.plan.features) & set(self.config.policy.forbid_features)):
            raise Refused(
                f"`policy.forbid_features` at this site forbids {', '.join(barred)}, which the model of plan {shared.plan.name} takes as an input"
            )
        source = self.config.source_for(shared.contract.ref)
        if source is None:
            raise UsageError(f"this site has no data under contract {shared.contract.ref}")
        if load_document(source.contract_file, Contract).digest != shared.contract.digest:
            raise Refused(
                f"contract {shared.contract.ref} of the model differs from the one that this site agreed to, {source.contract_file}"
            )
        return source

    def _parts(self, shared: SharedModel, source: DataSource, settings: Personal) -> Parts:
        reading = read_source(
            source, shared.contract, today=self.clock().date(), spool=self.config.journal.parent
        )
        return divide(reading.accepted(), shared, most_rows=settings.most_rows)
