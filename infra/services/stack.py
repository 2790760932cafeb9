"""All services together: start what is missing, in order; stop what was started; say what is there."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from feature_store.errors import UserError
from infra.services import mlflow, postgres, ray, seaweedfs
from infra.services.layout import Layout
from infra.services.ports import SERVICE_PORTS, check_free, choose_ports, load_ports
from infra.services.process import Process
from infra.services.service import Service

ASKING = {"postgres": signal.SIGINT}  # SIGTERM, which ends the others, makes it wait until its clients leave
PATIENCE = 180.0  # seconds that all of them may take to come up

Tell = Callable[[str], None]


class Stack:
    """The services of one home."""

    def __init__(self, home: Path) -> None:
        self.home = home.expanduser().resolve()
        self.folder = self.home / "services"
        self.processes = {name: Process(name, self.folder) for name in SERVICE_PORTS}

    def start(self, ports: Mapping[str, int], tell: Tell, cpus: int | None = None) -> Layout:
        """Start those that do not run, and wait until all can be used.

        Args:
            ports: ports by name, where they should not be those of the last time or free ones.
            tell: gets a line at each step.
            cpus: CPUs of the Ray cluster, both nodes together; the machine's if not given.

        Raises:
            UserError: a program is not installed, a port is taken, a service ends or does not come up.
        """
        with self._alone():
            known = load_ports(self.folder / "ports.json")
            running = [name for name, process in self.processes.items() if process.running()]
            if running and any(known.get(name) != port for name, port in ports.items()):
                raise UserError(f"{', '.join(running)} run on other ports", hint="make services-stop, then start again")
            layout = Layout(self.home, choose_ports(self.folder / "ports.json", ports))
            layout.draw_secrets()
            services = self._services(layout, cpus)
            layout.write_env_file()
            until = time.monotonic() + PATIENCE
            new: set[str] = set()
            for service in services:
                if service.name in running and not new.intersection(service.after):
                    tell(f"{service.name} runs already: {service.where}")
                    continue
                for needed in service.after:
                    self._wait(next(each for each in services if each.name == needed), until)
                self.processes[service.name].stop()  # a worker of a head that is gone
                check_free(SERVICE_PORTS[service.name], layout.ports)
                service.prepare()
                tell(f"starting {service.name}")
                process = self.processes[service.name]
                process.start(service.command, service.environment, service.folder, service.user)
                new.add(service.name)
            for service in services:
                self._wait(service, until)
                tell(f"{service.name}: {service.where}")
        return layout

    def stop(self, tell: Tell, patience: float = 30.0) -> None:
        """Stop those that were started here, the last first; what takes longer than `patience` seconds is killed."""
        if not self.folder.is_dir():
            tell("no services were started here")
            return
        with self._alone():
            for name in reversed(self.processes):
                was_running = self.processes[name].stop(ASKING.get(name, signal.SIGTERM), patience)
                tell(f"{name} {'stopped' if was_running else 'was not running'}")
            shutil.rmtree(Layout(self.home, {}).ray_folder, ignore_errors=True)

    def status(self, tell: Tell) -> bool:
        """Say of each whether it runs, and whether it can be used. Whether all can be."""
        ports = load_ports(self.folder / "ports.json")
        if not ports:
            tell("no services were started here")
            return False
        usable = 0
        for service in self._services(Layout(self.home, ports), None):
            process = self.processes[service.name]
            missing = service.missing() if process.running() else f"does not run (log: {process.log})"
            tell(f"{service.name}: {missing or f'usable, process {process.pid}, {service.where}'}")
            usable += not missing
        return usable == len(self.processes)

    def _services(self, layout: Layout, cpus: int | None) -> list[Service]:
        """In the order in which they are started."""
        first, second = ray.split_cpus(cpus or os.cpu_count() or 1)
        made = [postgres.service(layout), seaweedfs.service(layout), ray.head(layout, first)]
        return [*made, mlflow.service(layout), ray.worker(layout, second)]

    def _wait(self, service: Service, until: float) -> None:
        """Until a service can be used."""
        process = self.processes[service.name]
        while missing := service.missing():
            if not process.running():
                raise UserError(f"ended: {process.last_words()}", where=service.name, hint=f"its log: {process.log}")
            if time.monotonic() > until:
                raise UserError(f"does not come up: {missing}", where=service.name, hint=f"its log: {process.log}")
            time.sleep(0.3)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Only one command at a time starts or stops services of a home."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UserError(
                    "another command is starting or stopping these services", where=str(self.folder)
                ) from error
            yield
