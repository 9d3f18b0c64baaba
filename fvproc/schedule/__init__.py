"""Tiles on the threads of this process or on the workers of a cluster; the only package that knows Dask.

The way of a tile through it: `flow` cuts tiles from jobs and keeps a bounded window of them in flight on a crew
(`threads` of this process, or a `cluster`), and gives what comes back to the job, which puts it in its place.
"""

from fvproc.schedule.cluster import ClusterCrew
from fvproc.schedule.collections import lazy, to_dask
from fvproc.schedule.connect import Certificates, connect, dashboard_link, local_processes
from fvproc.schedule.crews import crew, run_all
from fvproc.schedule.flow import run, stop_if_asked
from fvproc.schedule.limits import require_files
from fvproc.schedule.threads import ThreadCrew
from fvproc.schedule.work import TILE_BYTES, Crew, Errand, Failure, Job, Progress, cut

__all__ = [
    "TILE_BYTES",
    "Certificates",
    "ClusterCrew",
    "Crew",
    "Errand",
    "Failure",
    "Job",
    "Progress",
    "ThreadCrew",
    "connect",
    "crew",
    "cut",
    "dashboard_link",
    "lazy",
    "local_processes",
    "require_files",
    "run",
    "run_all",
    "stop_if_asked",
    "to_dask",
]
