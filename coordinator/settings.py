"""The coordinator's configuration: `covenant.yaml` in its home folder, closed and frozen."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from coordinator.deploy.monitoring.alerts.channels import Alerts
from protos.documents import load_document
from protos.logs import Logging
from protos.monitoring import Monitoring
from protos.passphrases import PassphraseSource
from strategies.errors import UsageError

HOME_VARIABLE = "COVENANT_HOME"
CONFIG_NAME = "covenant.yaml"


class SuperLinkSection(BaseModel):
    """Where the SuperLink listens. `managed: false` means that an existing one is used, whose files then lie in `tls`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    port: int = Field(default=9092, ge=1, le=65535)
    managed: bool = True


class ControlSection(BaseModel):
    """Where the control API listens. Without this section nobody can call it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    port: int = Field(default=9093, ge=1, le=65535)


class EnrolmentSection(BaseModel):
    """Where the enrolment door listens, and by which `address` sites reach it, if that is another one. Without this section requests travel as files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    port: int = Field(default=9094, ge=1, le=65535)
    address: str | None = None

    @property
    def reached_at(self) -> str:
        """host:port for invitations."""
        return self.address or f"{self.host}:{self.port}"


class OidcSection(BaseModel):
    """An OpenID provider whose sign-in the console takes. Who its subjects are is said on this machine (`covenant console tie`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    issuer: str = Field(
        pattern=r"^https://[^\s?#]{1,250}$", description="As the provider's metadata spell it"
    )
    client_id: str = Field(min_length=1, max_length=255)
    client_secret: PassphraseSource
    ca: str | None = Field(
        default=None, description="Certificates that prove the provider, in the home folder"
    )
    proxy: str | None = None
    label: str = Field(default="Sign in with your bank's account", max_length=80)


class ConsoleSection(BaseModel):
    """Where the web console listens. Without this section there is none.

    `certificate` and `key` are the bank's own, in PEM in the home folder; without them the control authority makes a pair. `names` are further names by
    which browsers reach it, each with its port.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    port: int = Field(default=9095, ge=1, le=65535)
    certificate: str | None = None
    key: str | None = None
    names: tuple[str, ...] = ()
    desk: str = Field(default="http://127.0.0.1:9096", pattern=r"^http://127\.0\.0\.1:[0-9]{1,5}$")
    """Where officers' desks answer on their own machines."""
    oidc: OidcSection | None = None

    @model_validator(mode="after")
    def _certificate_with_key(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("console.certificate and console.key go together; set both, or neither")
        return self


class KeysSection(BaseModel):
    """The private keys of the coordinator's services, and the `passphrase` that opens them; without it they are not encrypted.

    `signing` is the P-256 key that signs models; its certificate lies beside it as NAME.json. Without that file models are registered unsigned.
    `releases` is the artifacts service's own key, which signs what a target may run.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    log: str = "log.key"
    signing: str = "signing.key"
    releases: str = "artifacts.key"
    passphrase: PassphraseSource | None = None


class CoordinatorConfig(BaseModel):
    """What an operator may set; every path is relative to the home folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    covenant: Literal["coordinator/v1"]
    federation: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    database: str | None = Field(
        default=None, description="SQLAlchemy URL; None is SQLite in the home folder"
    )
    artifacts: str = "artifacts"
    members: str = "members.json"
    root: str = "root.json"
    targets: str = Field(
        default="targets", description="Folder that targets added over the control API may name paths in"
    )
    keys: KeysSection = KeysSection()
    superlink: SuperLinkSection = SuperLinkSection()
    control: ControlSection | None = None
    enrolment: EnrolmentSection | None = None
    console: ConsoleSection | None = None
    monitoring: Monitoring = Monitoring()
    alerts: Alerts = Alerts()
    logging: Logging = Logging()


@dataclass(frozen=True, slots=True, kw_only=True)
class SuperLinkAddress:
    """A SuperLink and the files that prove it and open it."""

    host: str
    port: int
    ca_file: Path
    certificate_file: Path
    key_file: Path
    control_token_file: Path
    executor_secret_file: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The configuration of the coordinator in `home`, with paths resolved."""

    home: Path
    config: CoordinatorConfig

    @property
    def database_url(self) -> str:
        """SQLAlchemy URL of the database of record."""
        return self.config.database or f"sqlite:///{self.home / 'covenant.db'}"

    @property
    def artifacts(self) -> Path:
        """Folder of the content-addressed artifacts."""
        return self.home / self.config.artifacts

    @property
    def targets(self) -> Path:
        """Folder outside of which nobody who calls the control API names a path of a target."""
        return self.home / self.config.targets

    @property
    def members_file(self) -> Path:
        """The signed member list, with the roots that lead to it."""
        return self.home / self.config.members

    @property
    def root_file(self) -> Path:
        """The federation's root: version 1, signed by its own quorum."""
        return self.home / self.config.root

    @property
    def log_key_file(self) -> Path:
        """The private key that signs the transparency log's heads; its identity card lies beside it as NAME.pub."""
        return self.home / self.config.keys.log

    @property
    def artifact_key_file(self) -> Path:
        """The private key that signs models."""
        return self.home / self.config.keys.signing

    @property
    def artifact_certificate_file(self) -> Path:
        """The certificate that vouches for it."""
        return self.artifact_key_file.with_suffix(".json")

    @property
    def release_key_file(self) -> Path:
        """The artifacts service's own private key, which signs releases of models; its identity card lies beside it as NAME.pub."""
        return self.home / self.config.keys.releases

    @property
    def control_tls(self) -> Path:
        """Folder of the control API's own authority, and of the certificate that proves it."""
        return self.home / "control"

    @property
    def console_key_file(self) -> Path:
        """The key under which the console keeps secrets of accounts."""
        return self.home / "console.key"

    @property
    def logs(self) -> Path:
        """Folder of the logs of the coordinator's processes."""
        return self.home / "logs"

    @property
    def superlink(self) -> SuperLinkAddress:
        """Address and files of the SuperLink."""
        tls, secrets = self.home / "tls", self.home / "secrets"
        return SuperLinkAddress(
            host=self.config.superlink.host,
            port=self.config.superlink.port,
            ca_file=tls / "ca.crt",
            certificate_file=tls / "superlink.crt",
            key_file=tls / "superlink.key",
            control_token_file=secrets / "control-token",
            executor_secret_file=secrets / "executor-secret",
        )


def load_settings(home: Path | None = None) -> Settings:
    """Read `covenant.yaml` in `home`, or in $COVENANT_HOME, or in ./covenant-home; raises `UsageError` where there is none."""
    folder = _folder(home)
    if not has_coordinator(home):
        raise UsageError(
            f"no coordinator in {folder}: {CONFIG_NAME} is missing. Make one with `covenant init {folder}`, or name its folder "
            f"with --home or {HOME_VARIABLE}"
        )
    return Settings(home=folder, config=load_document(folder / CONFIG_NAME, CoordinatorConfig))


def has_coordinator(home: Path | None = None) -> bool:
    """Whether `load_settings` would find a configuration."""
    return (_folder(home) / CONFIG_NAME).exists()


def _folder(home: Path | None) -> Path:
    return (home or Path(os.environ.get(HOME_VARIABLE, "covenant-home"))).resolve()
