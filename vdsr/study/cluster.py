"""Workers for the queue by dask.distributed: processes of this machine, or of a whole cluster."""

import logging
import os
from contextlib import contextmanager, nullcontext, suppress

import psutil
import torch

CONNECTING = 10  # seconds that a scheduler has to answer


@contextmanager
def executor(workers=None, scheduler=None):
    """Give an executor for `vdsr.study.queue.run`, and print where its dashboard is.

    Parameters
    ----------
    workers : int or "auto", optional
        Start that many processes on this machine. GPUs, if there are any, are dealt out in turn;
        cores are shared equally, or as ``OMP_NUM_THREADS`` says. ``"auto"`` is one for each GPU,
        or for each two cores.
    scheduler : str, optional
        Join the cluster of the scheduler at this address, ``tcp://host:8786``, say, instead.

    Yields
    ------
    concurrent.futures.Executor

    Raises
    ------
    ImportError
        If dask.distributed is not installed.
    OSError
        If no scheduler answers at that address.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise ImportError(
            "more than one worker needs the package distributed, which "
            "`pip install -c constraints.txt -e '.[scale]'` brings"
        ) from error

    class Closing(Client):
        """A client that ends when it cannot start, and not whenever it is collected.

        If that is while another one starts, the two wait for each other forever.
        """

        def start(self, **options):
            try:
                return super().start(**options)
            except BaseException:
                with suppress(TimeoutError):
                    self.close()
                self.status = "closed"
                raise

    with _local(workers) if scheduler is None else nullcontext(scheduler) as place:
        try:
            client = Closing(place, timeout=CONNECTING, set_as_default=False)
        except (OSError, ValueError) as error:
            raise OSError(
                f"no scheduler answers at {scheduler!r}; give the address that `dask scheduler` "
                f"prints, such as tcp://192.168.0.1:8786"
            ) from error
        with client:
            n = len(client.scheduler_info(n_workers=-1)["workers"])
            wait = "" if n else ", runs wait for the first"
            print(f"workers: {n}{wait}; dashboard: {client.dashboard_link}", flush=True)
            yield client.get_executor()


def _local(workers):
    """Return a cluster of processes on this machine, which ends with the block that it opens."""
    import dask
    from dask.system import CPU_COUNT
    from distributed import Nanny, Scheduler, SpecCluster

    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = chosen.split(",") if chosen else [str(i) for i in range(torch.cuda.device_count())]
    gpus = gpus[: torch.cuda.device_count()]
    cores = min(psutil.cpu_count(logical=False) or CPU_COUNT, CPU_COUNT)
    if workers == "auto":
        workers = len(gpus) or max(1, cores // 2)
    # Before Python starts: libraries look at these when they are imported. Dask's own choice is
    # one thread, and a setting of malloc that costs each step time.
    environment = {"OMP_NUM_THREADS": max(1, cores // workers), "TQDM_DISABLE": 1}
    quiet = {"silence_logs": logging.WARNING}
    host = {"host": "127.0.0.1"}
    specs = {
        i: {
            "cls": Nanny,
            "options": {
                "nthreads": 1, "memory_limit": None, **host, **quiet,
                "env": {"CUDA_VISIBLE_DEVICES": gpus[i % len(gpus)]} if gpus else {},
            },
        }
        for i in range(workers)
    }  # fmt: skip
    dashboard = {"dashboard": True, "dashboard_address": "127.0.0.1:0"}
    with dask.config.set({"distributed.nanny.pre-spawn-environ": environment}):
        return SpecCluster(specs, {"cls": Scheduler, "options": host | dashboard}, **quiet)
