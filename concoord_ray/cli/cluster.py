"""The way to a Ray cluster that runs, and to an ensemble on it.

Says at once why there is none. ``ray.init`` by itself tries for 20 seconds and longer where nobody listens or where the
cluster wants a token, and then gives the same error for both. Ray has no public call that tells them apart, so the
private ones are all here.
"""

from __future__ import annotations

import contextlib
import logging
import socket

import ray
from ray import _raylet
from ray._private import services

from concoord_ray import genesis
from concoord_ray.errors import ConfigurationError
from concoord_ray.genesis import Plan

_CONNECT_TIMEOUT_S = 5.0


def connect(address: str) -> None:
    """Join the cluster at ``address`` ("host:port" or "auto") as a driver.

    Raises ConfigurationError if there is none, or if it does not let this process in.
    """
    logging.getLogger("ray").setLevel(logging.ERROR)  # What Ray advises on the way is not about this command.
    found = _find(address)
    _check_that_somebody_listens(found)
    _check_admission(found)
    try:
        ray.init(address=found, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError) as error:
        raise ConfigurationError(f"Cannot join the Ray cluster at {found}: {error}") from error


def existing_plan(name: str) -> Plan:
    """The plan of the ensemble called ``name``. Raises ConfigurationError if there is none."""
    plan = genesis.find_plan(name)
    if plan is None:
        raise ConfigurationError(
            f"There is no ensemble called {name!r} on this cluster; those that exist: "
            f"{', '.join(genesis.plan_names()) or 'none'}."
        )
    return plan


def _find(address: str) -> str:
    if "://" in address:
        raise ConfigurationError(
            f"--address {address}: give host:port. Ray Client does not reach ensembles; run this on a node of the "
            f"cluster."
        )
    if address != "auto" and not address.rpartition(":")[2].isdigit():
        raise ConfigurationError(f"--address {address}: give host:port, or auto.")
    try:
        found: str = services.canonicalize_bootstrap_address_or_die(address)
    except (ConnectionError, ValueError, OSError) as error:
        raise ConfigurationError(
            f"No Ray cluster was found with --address {address} ({error}). Start one with: ray start --head"
        ) from error
    return found


def _check_that_somebody_listens(address: str) -> None:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise ConfigurationError(f"No Ray cluster answers at {address}: {error}.") from error


def _check_admission(address: str) -> None:
    """Ask GCS for anything at all: it refuses a wrong token at once."""
    with contextlib.suppress(ImportError):  # A Ray that does not look for a token by itself.
        from ray._private.authentication import authentication_token_setup as setup  # noqa: PLC0415

        setup.maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
    try:
        _raylet.GcsClient(address=address)  # type: ignore[attr-defined]  # Its stubs leave this class out.
    except ray.exceptions.RayError as error:
        if type(error).__name__ != "AuthenticationError":  # Known by name: a Ray without tokens has no such class.
            raise ConfigurationError(f"The Ray cluster at {address} does not answer: {error}") from error
        raise ConfigurationError(
            f"The Ray cluster at {address} wants a token, and does not take the one given here, if any. On a node of "
            f"the cluster it is in ~/.ray/auth_token: copy that file to here, set RAY_AUTH_MODE=token, and try again."
        ) from error
