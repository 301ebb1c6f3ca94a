"""The twelve oracles of the engine, and the tests that hold each."""

from __future__ import annotations

from dataclasses import dataclass

PROOF = "tests/trainkit/proof"


@dataclass(frozen=True)
class Oracle:
    """``says``: the claim in a line; ``tests``: files, or tests within them by the beginning of their names
    (``file::name``); ``exact``: no difference at all is allowed."""

    number: int
    says: str
    tests: tuple[str, ...]
    exact: bool = False


ORACLES = (
    Oracle(
        1, "packed examples are what they are alone; a mask of ones over several is refused",
        ("tests/trainkit/test_logprobs_packed.py", "tests/trainkit/test_step.py::test_sharing_rows",
         "tests/trainkit/data/test_collate.py::test_positions_that_restart"),
    ),
    Oracle(
        2, "the loss before the first update is what its formula says",
        (f"{PROOF}/test_step_zero.py", "tests/trainkit/stages/test_losses.py"),
    ),
    Oracle(
        3, "six steps are those of TRL and of LLaMA-Factory",
        (f"{PROOF}/test_trl.py", "tests/trainkit/test_trajectories.py"),
    ),
    Oracle(
        4, "batches and blocks are those worked out on paper",
        (f"{PROOF}/test_collators.py", "tests/trainkit/data/test_collate.py"), exact=True,
    ),
    Oracle(
        5, "exactly the answers and their end are trained",
        ("tests/registry/test_own_oracle.py", "tests/registry/test_own_template.py", "tests/registry/test_goldens.py"),
        exact=True,
    ),
    Oracle(
        6, "8 × 1 = 4 × 2 = 2 × 4 = 1 × 8, with a short last step",
        (f"{PROOF}/test_accumulation.py", "tests/trainkit/test_step.py"),
    ),
    Oracle(7, "two processes train as one does, whoever shares the work", ("tests/trainkit/backends/test_together.py",)),
    Oracle(
        8, "a run that was stopped or killed ends as if nothing had been",
        ("tests/trainkit/test_exact_resume.py", "tests/trainkit/kill/test_killed.py"), exact=True,
    ),
    Oracle(
        9, "the chunked head has the value and the gradients of F.cross_entropy",
        ("tests/trainkit/test_head_logprobs.py",),
    ),
    Oracle(
        10, "a fresh adapter changes nothing; merged, saved and loaded it says the same",
        ("tests/trainkit/methods/test_lora.py", "tests/trainkit/methods/test_oft.py",
         "tests/trainkit/methods/test_pissa.py", "tests/trainkit/methods/test_adapters.py"),
    ),
    Oracle(
        11, "reward model, ORPO and SimPO by their formulas",
        ("tests/trainkit/stages/test_rm.py", "tests/trainkit/stages/test_losses.py::test_orpo",
         "tests/trainkit/stages/test_losses.py::test_simpo", f"{PROOF}/test_step_zero.py::test_losses_without",
         f"{PROOF}/test_trl.py::test_orpo", f"{PROOF}/test_trl.py::test_simpo", f"{PROOF}/test_trl.py::test_reward"),
    ),
    Oracle(12, "the numbers that TRL publishes of a 0.5B model", (f"{PROOF}/test_public_numbers.py",)),
)  # fmt: skip


def holds(oracle: Oracle, test: str) -> bool:
    """Whether the test of this node id (``file::name[case]``) is among those of the oracle."""
    path, _, name = test.partition("::")
    wanted = (each.partition("::") for each in oracle.tests)
    return any(path == file and name.startswith(beginning) for file, _, beginning in wanted)
