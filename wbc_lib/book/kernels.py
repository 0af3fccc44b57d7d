"""Kernels for the chapters that are copies of a process which has loaded the libraries: each saves seconds."""

import multiprocessing
import os
import signal
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning import LocalProvisioner

from wbc_lib import stopping

#: Where forking is safe once libraries are loaded; elsewhere kernels start as they always do.
CAN_COPY = sys.platform == "linux"
#: What Jupyter asks for the name of what starts kernels, and the name in ``pyproject.toml`` of what does it here.
PROVISIONER, COPIED = "JUPYTER_DEFAULT_PROVISIONER_NAME", "wbc-copied"
_LAUNCHER = "ipykernel_launcher"
_LOADED = ["wbc_lib.book.chapter", "ipykernel.kernelapp", "ipykernel.ipkernel"]


class CopiedProvisioner(LocalProvisioner):
    """Starts a Python kernel on this machine by copying (forking) a process that has loaded what all chapters use."""

    process: Any = None

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        """Give the kernel sockets with a name of its own: a port that is free now may be another's when it is bound."""
        for name, value in (("transport", "ipc"), ("ip", f"@wbc-{self.kernel_id}")):  # @: they are in no folder
            setattr(self.parent, name, value)
        return await super().pre_launch(**kwargs)

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Start the kernel that a command line names, in the folder and with the environment given.

        Any other kernel than IPython's starts as it always does.
        """
        if _LAUNCHER not in cmd:
            return await super().launch_kernel(cmd, **kwargs)
        if not os.environ.get("MPLBACKEND"):  # kernels set it too, but Matplotlib reads it as it is loaded
            os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(_LOADED)
        folder = kwargs.get("cwd", str(Path.cwd()))
        arguments = cmd[cmd.index(_LAUNCHER) + 1 :]
        process = context.Process(target=_run_kernel, args=(arguments, folder, kwargs["env"]), daemon=True)
        process.start()
        self.process, self.pid, self.cwd = _Copy(process), process.pid, folder
        return self.connection_info


class _Copy:
    """A process of multiprocessing's, asked as `LocalProvisioner` asks one of subprocess's."""

    stdin = stdout = stderr = None

    def __init__(self, process: BaseProcess) -> None:
        self._process = process

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self) -> int | None:
        self._process.join()
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self._process.pid:
            os.kill(self._process.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _run_kernel(arguments: list[str], folder: str, environment: dict[str, str]) -> None:
    from ipykernel.kernelapp import IPKernelApp

    multiprocessing.current_process().daemon = False  # to the one that started it it is one; it may have its own
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    stopping.end_with_parent()
    IPKernelApp.launch_instance(argv=arguments)
