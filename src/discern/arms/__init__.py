"""The kinds of baseline arms: one file each, with its parameters and how it is built, found by its `kind`.

Parameters are read by every stage and command, so these files import torch, and what needs it, inside their
builders.
"""

import importlib
import pkgutil

from discern.arms.registry import Arm, Role, Setup, build, register, registered

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["Arm", "Role", "Setup", "build", "register", "registered"]
