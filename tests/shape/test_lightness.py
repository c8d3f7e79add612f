"""What is imported before anything is asked for: decided by the set of modules, not by a clock."""

from __future__ import annotations

import json
import subprocess
import sys

from finetooth.cli.app import group

# Third-party packages that `import finetooth` and every --help may load. A new name here is a decision.
LIGHT = {"annotated_types", "click", "pydantic", "pydantic_core", "yaml", "_yaml"}
LIGHT |= {"typing_extensions", "typing_inspection"}

PROBE = """
import json, sys, sysconfig
{code}
site = sysconfig.get_paths()["purelib"]
origin = lambda module: getattr(module, "__file__", None) or ""
print(json.dumps(sorted({{name.split(".")[0] for name, module in sys.modules.items()
                          if origin(module).startswith(site)}} - {{"finetooth"}})))
"""
IGNORED = ("_distutils_hack", "__editable__")


def packages_after(code: str) -> set[str]:
    """Top-level third-party packages in sys.modules of a fresh interpreter that ran the code."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(code=code)], capture_output=True, text=True, check=True
    )
    return {name for name in json.loads(done.stdout.splitlines()[-1]) if not name.startswith(IGNORED)}


def test_the_probe_sees_what_is_imported() -> None:
    assert {"numpy"} <= packages_after("import numpy")


def test_importing_the_package_is_light() -> None:
    assert packages_after("import finetooth; finetooth.Task; finetooth.Sampling") <= LIGHT


def test_help_is_light() -> None:
    lines = [f"assert invoke({[*verb.split(), '--help']!r}) == 0" for verb in ("", *group.commands)]
    assert packages_after("\n".join(["from finetooth.cli.app import invoke", *lines])) <= LIGHT


def test_completing_a_word_is_light() -> None:
    """A shell waits for it at every Tab."""
    code = (
        "import os; os.environ |= {'_FINETOOTH_COMPLETE': 'bash_complete', 'COMP_CWORD': '2', "
        "'COMP_WORDS': 'finetooth chat '}\n"
        "from finetooth.cli.app import invoke\n"
        "try: invoke([])\nexcept SystemExit as end: assert end.code == 0"
    )
    assert packages_after(code) <= LIGHT


def test_comparing_and_listing_runs_loads_no_torch() -> None:
    for command in ("compare", "log"):
        assert not packages_after(f"import finetooth.commands.{command}") & {"torch", "transformers", "peft"}
