"""Programs one after another on the solver that a thread keeps."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from csms.planning.simplex import LinearProgram

PRIMAL = {"simplex_strategy": 4, "simplex_primal_edge_weight_strategy": 0}
LIMIT = 10_000


def program(seed: int, *, cars: int, blocks: int, asked: float = 2.0) -> LinearProgram:
    """Return a program in which each car has to have `asked` of what all share, block by block."""
    rng = np.random.default_rng(seed)
    count = cars * blocks
    car, block = np.divmod(np.arange(count), blocks)
    return LinearProgram(
        cost=rng.uniform(0.1, 0.4, count),
        lower=np.zeros(count),
        upper=np.ones(count),
        row_lower=np.concatenate([np.full(blocks, -np.inf), np.full(cars, asked)]),
        row_upper=np.concatenate([np.full(blocks, 0.5 * cars), np.full(cars, asked)]),
        starts=np.arange(0, 2 * count + 1, 2, dtype=np.int32),
        index=np.column_stack([block, blocks + car]).ravel().astype(np.int32),
        value=np.ones(2 * count),
    )


def found(of: LinearProgram, **options: int) -> tuple[bytes, bytes]:
    solved = of.solved(LIMIT, options=options)
    assert solved is not None
    return solved.values.tobytes(), solved.duals.tobytes()


def test_what_was_solved_before_changes_no_bit_of_an_optimum() -> None:
    programs = [program(seed, cars=6 + seed, blocks=8) for seed in range(8)]
    with ThreadPoolExecutor(max_workers=1) as new:
        first = new.submit(found, programs[0]).result()
    for other in programs[1:]:
        found(other)
        found(other, **PRIMAL)
        assert found(programs[0]) == first


def test_a_program_without_solution_or_cut_short_leaves_nothing_behind() -> None:
    sound = program(1, cars=20, blocks=8)
    first = found(sound)
    assert program(2, cars=5, blocks=4, asked=9.0).solved(LIMIT) is None
    assert program(3, cars=20, blocks=8).solved(3) is None
    assert found(sound) == first


def test_options_hold_for_their_own_program_only() -> None:
    values: NDArray[np.float64]
    loose = program(4, cars=10, blocks=6)
    assert loose.solved(LIMIT, options={"simplex_iteration_limit": 1}) is None
    solved = loose.solved(LIMIT)
    assert solved is not None
    values = solved.values
    assert np.allclose(values.reshape(10, 6).sum(axis=1), 2.0)


OTHERS_FIRST = """
import highspy
import numpy as np
other = highspy._core._Highs()
other.setOptionValue("output_flag", False)
other.setOptionValue("threads", {threads})
nothing, one = np.zeros(1), np.ones(1)
other.passModel(
    1, 1, 1, 1, 1, 0.0, one, nothing, one, nothing, one,
    np.array([0, 1], dtype=np.int32), np.zeros(1, dtype=np.int32), one,
    np.zeros(1, dtype=np.int32),
)
assert other.run() != highspy.HighsStatus.kError
from tests.planning.test_simplex import found, program
print(b"".join(found(program(1, cars=6, blocks=8))).hex())
"""


def test_who_used_highs_in_the_process_before_changes_nothing() -> None:
    said = [
        subprocess.run(
            [sys.executable, "-c", OTHERS_FIRST.format(threads=threads)],
            capture_output=True,
            text=True,
            check=False,
            cwd=Path(__file__).parents[2],
        )
        for threads in (1, 2, 3)
    ]
    assert [(one.returncode, one.stderr) for one in said] == [(0, "")] * 3
    assert len({one.stdout for one in said}) == 1
