"""Ways to a cluster: a scheduler's address, its file, certificates, or worker processes on this machine."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fvproc.errors import FvprocError
from fvproc.schedule import settings, shield

# Nothing that fvproc starts by itself may be reached from another machine.
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Certificates:
    """Files for TLS, in PEM: the authority that both sides trust, our certificate, our key."""

    ca: str | None = None
    certificate: str | None = None
    key: str | None = None

    def security(self) -> Any:
        """Return the `distributed.Security` of these files; None where none is given: Dask's configuration decides.

        Raises
        ------
        FvprocError
            If one is missing or cannot be read.
        """
        given = {"--tls-ca": self.ca, "--tls-cert": self.certificate, "--tls-key": self.key}
        if not any(given.values()):
            return None
        for option, name in given.items():
            if name is None:
                raise FvprocError(f"{option} is missing: a TLS connection takes all of {', '.join(given)}")
            try:
                Path(name).open("rb").close()
            except OSError as error:
                raise FvprocError(f"{option} {name}: cannot be read: {error.strerror or error}") from None
        from distributed.security import Security

        return Security(
            tls_ca_file=self.ca, tls_client_cert=self.certificate, tls_client_key=self.key, require_encryption=True
        )


def connect(
    address: str | None = None, scheduler_file: str | None = None, certificates: Certificates | None = None
) -> Any:
    """Return a client of the cluster at an address, or at the one in a scheduler file; the caller closes it.

    Parameters
    ----------
    address : str, optional
        Such as ``"tcp://host:8786"`` or ``"tls://host:8786"``.
    scheduler_file : str, optional
        What `dask scheduler --scheduler-file` wrote.
    certificates : Certificates, optional
        For ``tls://``; by default those of Dask's own configuration.

    Raises
    ------
    FvprocError
        If the address or the file is none, a certificate is missing, or no scheduler answers.
    """
    settings.dask()
    from distributed import Client
    from distributed.comm import resolve_address

    security = None if certificates is None else certificates.security()
    address = address or "" if scheduler_file is None else _address_in(scheduler_file)
    place = scheduler_file or repr(address)
    try:
        # a client that fails over its address hangs when Python ends, one without a file waits for it for ever, one
        # without certificates fails once more when it is collected
        resolve_address(address)
        if address.startswith("tls://"):
            from distributed.security import Security

            if (security or Security()).get_connection_args("client").get("ssl_context") is None:
                raise ValueError("there are no certificates")
        return Client(address, set_as_default=False, **({"security": security} if security is not None else {}))
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        hint = ""
        if address.startswith("tls://"):
            hint = "; a tls:// address takes --tls-ca, --tls-cert and --tls-key, or Dask's own configuration of them"
        raise FvprocError(f"no scheduler answers at {place}: {error}{hint}") from None


def _address_in(scheduler_file: str) -> str:
    """Return the address that `dask scheduler --scheduler-file` wrote."""
    try:
        return str(json.loads(Path(scheduler_file).read_text(encoding="utf-8"))["address"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise FvprocError(
            f"{scheduler_file}: no scheduler's address can be read from it ({error});"
            " start `dask scheduler --scheduler-file` first"
        ) from None


def is_cluster(client: Any) -> bool:
    """Return whether a caller gave a cluster, such as `LocalCluster`, in place of a client of it."""
    deploy = sys.modules.get("distributed.deploy.cluster")  # who has a cluster has imported it
    return deploy is not None and isinstance(client, deploy.Cluster)


def client_of(cluster: Any) -> Any:
    """Return a client of a cluster; the caller closes it.

    Raises
    ------
    FvprocError
        If the cluster is closed.
    """
    from distributed import Client

    if cluster.status.name != "running":
        raise FvprocError(f"client = {cluster!r}: the cluster is {cluster.status.name}; give one that runs")
    return Client(cluster, set_as_default=False)


def require_usable(client: Any) -> None:
    """Raise FvprocError unless a caller's client is one, and can be waited for."""
    distributed = sys.modules.get("distributed")
    if distributed is None or not isinstance(client, distributed.Client):
        raise FvprocError(
            f"client = {client!r}: expected a distributed.Client, a cluster, or a scheduler's address such as"
            f" 'tcp://host:8786', not {type(client).__name__}"
        )
    if client.asynchronous:
        raise FvprocError(
            "client: an asynchronous client cannot be waited for; give a Client(…) without asynchronous=True, and from"
            " a coroutine call through asyncio.to_thread"
        )
    if client.status != "running":
        raise FvprocError(f"client: its connection is {client.status}; give a new Client(…) of the cluster")


def dashboard_link(client: Any) -> str | None:
    """Return the address of a cluster's dashboard; None where it has none, or where Dask's format of it is broken."""
    try:
        return str(client.dashboard_link or "") or None
    except (KeyError, ValueError, IndexError, AttributeError, TypeError):
        # distributed.dashboard.link may name environment variables that are not set
        return None


@contextmanager
def local_processes(number: int) -> Iterator[Any]:
    """Yield a client of so many worker processes of one thread each, which only this machine can reach.

    For readers that hold Python's lock, which threads cannot share.

    Raises
    ------
    FvprocError
        If `number` is below one, or they cannot be started.
    """
    if number < 1:
        raise FvprocError(f"processes = {number!r}: at least one is needed")
    settings.dask()
    from distributed import Client, LocalCluster

    with ExitStack() as stack:
        try:
            cluster = stack.enter_context(
                LocalCluster(
                    n_workers=number,
                    threads_per_worker=1,
                    processes=True,
                    host=LOOPBACK,
                    dashboard_address=f"{LOOPBACK}:0",
                    # a laptop's memory is shared with everything else: a tile takes some megabytes, so no limit is
                    # needed
                    memory_limit=0,
                    preload=[shield.__name__],
                )
            )
            # records need not pass through the scheduler: on this machine the client reaches every worker
            client = stack.enter_context(Client(cluster, set_as_default=False, direct_to_workers=True))
        except (OSError, RuntimeError, ValueError, TypeError) as error:
            folder = settings.dask().config.get("temporary-directory", None) or tempfile.gettempdir()
            raise FvprocError(
                f"processes = {number}: they cannot be started: {_first_of(error)}; they need to write in {folder}"
                " (DASK_TEMPORARY_DIRECTORY in the environment) and a port of this machine"
            ) from error
        yield client


def _first_of(error: BaseException) -> BaseException:
    """Return what an error came of: Dask wraps it several times."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error
