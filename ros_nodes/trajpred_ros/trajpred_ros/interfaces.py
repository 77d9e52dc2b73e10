"""Builds the message package into this Python environment, where no ROS distribution brings it.

`pip install -e '.[ros]'` brings rclpy, the common messages and ament's build tools as wheels;
`trajpred-interfaces` then builds autoware_perception_msgs beside them, once, in about half a minute. The
wheels put the environment's own `lib` on the search paths, so that nothing need be exported.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from importlib.resources import as_file, files
from importlib.util import find_spec
from pathlib import Path

from trajpred.errors import TrajpredError

PACKAGE = "autoware_perception_msgs"
REINSTALL = "pip install -e '.[ros]'"
BUILT_HERE = Path("share") / PACKAGE / "trajpred.txt"
"""Under the environment: the sources that the package there was built from."""


class InterfaceBuildError(TrajpredError):
    """The message package cannot be built here."""


def build(prefix: Path = Path(sys.prefix)) -> bool:
    """Build and install the message package into the environment at `prefix`; False if it is there already.

    Raises InterfaceBuildError with what is missing or with the end of the build's own words.
    """
    with as_file(files("trajpred") / "interfaces" / PACKAGE) as source:
        wanted = _digest(source)
        mark = prefix / BUILT_HERE
        if find_spec(PACKAGE) is not None and (not mark.exists() or mark.read_text() == wanted):
            return False
        cmake = _tool("cmake", prefix)
        for name in ("c++", "make"):
            _tool(name, prefix)
        if not Path(sysconfig.get_paths()["include"], "Python.h").exists():
            raise InterfaceBuildError(
                f"{sys.executable}: its C headers are missing: install them (Debian: python3-dev)"
            )
        _point_at_own_python(prefix)
        with tempfile.TemporaryDirectory() as work:
            where = {"CMAKE_PREFIX_PATH": str(prefix), "AMENT_PREFIX_PATH": str(prefix)}
            where["PATH"] = os.pathsep.join([str(prefix / "bin"), os.environ.get("PATH", "")])
            for step in (
                [
                    cmake,
                    *("-S", str(source), "-B", work),
                    f"-DCMAKE_INSTALL_PREFIX={prefix}",
                    f"-DPython3_EXECUTABLE={sys.executable}",
                    "-DBUILD_TESTING=OFF",
                ],
                [cmake, "--build", work, "--parallel", str(os.cpu_count() or 1)],
                [cmake, "--install", work],
            ):
                _run(step, {**os.environ, **where})
        mark.write_text(wanted)
    return True


def main() -> int:
    """The console script."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(f"usage: trajpred-interfaces\n\n{__doc__}")
        return 0
    try:
        print("building the message package, about half a minute ...", file=sys.stderr)
        built = build()
    except TrajpredError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{PACKAGE}: {'built' if built else 'is there already'}")
    return 0


def _digest(source: Path) -> str:
    return "".join(f"{path.name}\n{path.read_text('utf-8')}" for path in sorted(source.rglob("*.*")))


def _tool(name: str, prefix: Path) -> str:
    found = shutil.which(name, path=os.pathsep.join([str(prefix / "bin"), os.environ.get("PATH", "")]))
    if found is None:
        way = REINSTALL if name == "cmake" else "install a C++ compiler (Debian: build-essential)"
        raise InterfaceBuildError(f"{name} is missing, which building {PACKAGE} needs: {way}")
    return found


def _point_at_own_python(prefix: Path) -> None:
    """Let the wheels' CMake files name this Python's headers, not those of their build machine."""
    own = {
        r"/opt/python/[^;\"]*/include/python[^;\"]*": sysconfig.get_paths()["include"],
        r"/opt/python/[^;\"]*/numpy/[^;\"]*include": _numpy_headers(),
    }
    exports = list((prefix / "share").glob("*/cmake/*rosidl_generator_pyExport.cmake"))
    if not exports:
        raise InterfaceBuildError(f"{prefix}: no ROS packages in this environment: {REINSTALL}")
    for path in exports:
        text = path.read_text("utf-8")
        for theirs, ours in own.items():
            text = re.sub(theirs, lambda _, ours=ours: ours, text)  # type: ignore[misc]
        path.write_text(text, "utf-8")


def _numpy_headers() -> str:
    import numpy as np

    return np.get_include()


def _run(command: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        words = "\n".join((done.stdout + done.stderr).splitlines()[-25:])
        raise InterfaceBuildError(f"building {PACKAGE} failed in {' '.join(command[:2])}:\n{words}")


if __name__ == "__main__":
    sys.exit(main())
