# SPDX-License-Identifier: LGPL-2.1-or-later
"""Load the vmemmap commands into gdb: source /path/to/vmemmap-gdb.py

Finds the package this file came with, in a source tree or in an environment of any
Python, and puts nothing of that environment on gdb's own path. Sourcing it again loads
everything anew. The syntax is that of Python 3.6, so that an old gdb can say what it
lacks.
"""

import gdb


def _vmemmap_load():
    import glob
    import importlib
    import importlib.util
    import os
    import sys

    name = "vmemmap_tools"
    # pip leaves the choice of versions to the user: these work with any Python 3.9.
    packages = (("click", "click>=8.1,<8.2"), ("tabulate", "tabulate>=0.9,<0.10"))
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"

    class Refusal(Exception):
        """Why the commands cannot be loaded."""

    def fail(text):
        raise Refusal(text)

    def within(directory, package):
        """The file to import a package from, None when the directory lacks it."""
        for place in (os.path.join(package, "__init__.py"), package + ".py"):
            path = os.path.join(directory, place)
            if os.path.isfile(path):
                return path
        return None

    def load(package, path):
        """Import one package from its file, wherever that is."""
        folder = [os.path.dirname(path)] if path.endswith("__init__.py") else None
        spec = importlib.util.spec_from_file_location(
            package, path, submodule_search_locations=folder
        )
        module = importlib.util.module_from_spec(spec)
        sys.modules[package] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            forget(package)
            raise

    def forget(package):
        for module in list(sys.modules):
            if module == package or module.startswith(package + "."):
                del sys.modules[module]

    def sites(root):
        pattern = os.path.join(root, "lib", "python3*", "site-packages")
        return sorted(glob.glob(pattern), reverse=True)

    def find_home():
        """The directory that holds our package."""
        here = os.path.dirname(os.path.realpath(__file__))
        # gdb_scripts/ of a source tree, or vmemmap_tools/gdb_scripts/ installed.
        for up in ("..", os.path.join("..", "..")):
            directory = os.path.normpath(os.path.join(here, up))
            if within(directory, name):
                return directory
        found = importlib.util.find_spec(name)
        if found is None or not found.origin:
            fail(f"the package {name} is neither beside {here} nor installed")
        return os.path.dirname(os.path.dirname(found.origin))

    def places(home):
        """Where pure-Python packages may be borrowed from, the likeliest first."""
        yield home
        for directory in os.environ.get("VMEMMAP_TOOLS_SITE", "").split(os.pathsep):
            if directory:
                yield directory
        if os.environ.get("VIRTUAL_ENV"):
            yield from sites(os.environ["VIRTUAL_ENV"])
        yield from sites(os.path.join(home, ".venv"))

    def require(package, requirement, home):
        tried = ["gdb's own path"]
        trouble = "is missing"
        try:
            importlib.import_module(package)
            return
        except ImportError:
            pass
        except Exception as error:
            trouble = f"does not work ({error})"
        for directory in places(home):
            tried.append(directory)
            path = within(directory, package)
            if path is None:
                continue
            try:
                load(package, path)
                return
            except Exception as error:
                trouble = f"of {directory} does not work with it ({error})"
        fail(
            f"gdb has Python {python}, and its package {package} {trouble}. Install "
            f"one: pip install --target {home} '{requirement}' (looked in: "
            f"{', '.join(tried)})"
        )

    def load_door():
        if sys.version_info < (3, 9):  # noqa: UP036 - gdb has a Python of its own
            fail(f"gdb has Python {python}; 3.9 or later is needed")
        if not hasattr(gdb, "RemoteTargetConnection"):
            fail(f"this is gdb {gdb.VERSION}; 12 or later is needed")
        home = find_home()
        for package, requirement in packages:
            require(package, requirement, home)
        forget(name)
        load(name, within(home, name))
        importlib.import_module(name + ".gdb_door").register()

    # The status of a command that gave no answer; void would pass for 0.
    gdb.set_convenience_variable("vmemmap_status", 2)
    try:
        load_door()
    except Refusal as refusal:
        # gdb 13 would show the traceback of any error in a script.
        gdb.write(f"vmemmap: {refusal}\n", gdb.STDERR)


try:
    _vmemmap_load()
finally:
    del _vmemmap_load
