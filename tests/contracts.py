"""A kind of import contract that import-linter lacks: modules that import a named few and nothing else."""

from __future__ import annotations

import sys

import grimp
from importlinter import Contract, ContractCheck, fields, output


class OnlyContract(Contract):
    """`modules`, as packages, import each other, `allowed` and the standard library. One that isn't needed is an error."""

    modules = fields.ListField(subfield=fields.StringField())
    allowed = fields.ListField(subfield=fields.StringField())

    def check(self, graph: grimp.ImportGraph, verbose: bool) -> ContractCheck:
        """Collect the imports that are not allowed, and what is allowed for nothing."""
        sources: list[str] = list(self.modules)  # type: ignore[call-overload]  # a field holds its value in an instance
        allowed: list[str] = list(self.allowed)  # type: ignore[call-overload]  # likewise
        inside = {module for source in sources for module in (source, *graph.find_descendants(source))}
        used: set[str] = set()
        wrong: set[str] = set()
        for module in inside:
            for imported in graph.find_modules_directly_imported_by(module) - inside:
                door = next((one for one in allowed if imported == one or imported.startswith(f"{one}.")), None)
                if door is not None:
                    used.add(door)
                elif imported.partition(".")[0] not in sys.stdlib_module_names:
                    wrong.add(f"{module} imports {imported}")
        unused = set(allowed) - used
        return ContractCheck(kept=not wrong and not unused, metadata={"wrong": wrong, "unused": unused})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Say which imports break it."""
        for one in sorted(check.metadata["wrong"]):
            output.print_error(one)
        for one in sorted(check.metadata["unused"]):
            output.print_error(f"{one} is allowed and not imported: take it out of `allowed`")
