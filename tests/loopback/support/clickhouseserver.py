"""A real ClickHouse server, of Debian's package clickhouse-server. Where there is none, tests that start one are
skipped."""

import subprocess
import urllib.request
from pathlib import Path
from urllib.error import URLError

import pytest

from tests.bench.tools import Unavailable, program

from .ports import free_ports
from .waiting import eventually

USER = "anna"
PASSWORD = "s:cret"
_CONFIG = """<yandex>
  <logger><level>error</level><console>1</console></logger>
  <listen_host>127.0.0.1</listen_host><http_port>{http}</http_port><tcp_port>{tcp}</tcp_port>
  <path>{folder}/data/</path><tmp_path>{folder}/data/tmp/</tmp_path><users_config>{folder}/users.xml</users_config>
  <mark_cache_size>104857600</mark_cache_size><default_profile>default</default_profile>
  <default_database>default</default_database><timezone>UTC</timezone>
</yandex>"""
_USERS = """<yandex>
  <profiles><default/></profiles><quotas><default/></quotas>
  <users>
    <default>
      <password/><networks><ip>127.0.0.1</ip></networks><profile>default</profile><quota>default</quota>
    </default>
    <{user}>
      <password>{password}</password><networks><ip>127.0.0.1</ip></networks>
      <profile>default</profile><quota>default</quota>
    </{user}>
  </users>
</yandex>"""


class Server:
    """One process; `stop` kills it, `start` starts it again at the same port."""

    def __init__(self, folder: Path) -> None:
        self.port, tcp = free_ports(2)
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "data").mkdir(parents=True)
        (folder / "config.xml").write_text(_CONFIG.format(http=self.port, tcp=tcp, folder=folder))
        (folder / "users.xml").write_text(_USERS.format(user=USER, password=PASSWORD))
        self.start()

    def start(self) -> None:
        """Start it and wait until it answers."""
        try:
            installed = program("clickhouse-server")
        except Unavailable as why:
            pytest.skip(str(why))
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [installed, f"--config-file={self._folder}/config.xml"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
            )
        try:
            eventually(self._answers, within=20, every=0.05)
        except BaseException:
            self.stop()
            raise

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=2) as response:
                return bool(response.status == 200)
        except (URLError, OSError):
            return False

    def stop(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
