"""Lists of jobs as TOML: defaults, jobs, and the product of a matrix."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sdedit_cli.batch.matrix import read_matrix
from sdedit_cli.batch.rows import Source, layer_of_row
from sdedit_cli.batch.sources import rows_of
from sdedit_cli.errors import JobFileError, UsageError

FUZZ = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def art(tmp_path: Path) -> Path:
    for name in ("art/a.png", "art/b10.png", "art/b2.png", "art/b2.edited.png", "art/x.txt", "c.png", "l.st"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def read(folder: Path, text: str | bytes, **choices: Any) -> Source:
    path = folder / "jobs.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return rows_of(str(path), **choices)


def told(source: Source) -> list[tuple[str, str, dict[str, Any]]]:
    return [(str(row.name), row.variant, dict(layer_of_row(row).values)) for row in source.rows]


@pytest.mark.parametrize("form", ["plain", "mark", "crlf"])
def test_jobs_have_their_own_inputs_or_those_of_all(art: Path, form: str) -> None:
    text = """
inputs = ["art/b*.png", "c.png"]
[defaults]
steps = 20
output = "{stem}.webp"
[[job]]
prompt = "winter"
[[job]]
input = "art/a.png"
prompt = "summer"
output = "x.png"
"""
    text = {"plain": text, "mark": "\ufeff" + text, "crlf": text.replace("\n", "\r\n")}[form]
    source = read(art, text)
    winter, summer = {"prompt": "winter"}, {"prompt": "summer"}
    assert told(source) == [
        ("art/b2.png", "", winter),
        ("art/b10.png", "", winter),
        ("c.png", "", winter),
        ("art/a.png", "", summer),
    ]
    assert [row.output for row in source.rows] == ["{stem}.webp"] * 3 + ["x.png"]
    assert [row.place.partition(", ")[2] for row in source.rows] == ["job 1"] * 3 + ["job 2"]
    assert all(os.path.exists(row.input) for row in source.rows)
    assert source.defaults.values == {"steps": 20}
    assert source.root == art
    assert ["results of earlier runs" in note for note in source.notes] == [True]


def test_inputs_alone_are_jobs_and_may_be_folders(art: Path) -> None:
    for given_inputs in ('"art"', '["art"]', '["art/*.png"]'):
        assert [name for name, *_ in told(read(art, f"inputs = {given_inputs}"))] == [
            "art/a.png",
            "art/b2.png",
            "art/b10.png",
        ]
    assert [name for name, *_ in told(read(art, 'inputs = ["**/a.png", "../c.png"]'))] == ["art/a.png", "c.png"]


def test_the_results_of_the_batch_are_no_inputs(art: Path) -> None:
    source = read(art, 'inputs = ["**/*.png"]', leave_out=art / "art")
    assert [name for name, *_ in told(source)] == ["c.png"]


def test_a_matrix_is_the_product_of_its_lists_the_last_varying_fastest(art: Path) -> None:
    source = read(art, 'inputs = ["c.png", "art/a.png"]\n[matrix]\nstrength = [0.4, 1]\nseed = [1, 2]\nsteps = [20]\n')
    members = [
        (f"strength-{strength:g}_seed-{seed}", {"strength": strength, "seed": seed, "steps": 20})
        for strength in (0.4, 1.0)
        for seed in (1, 2)
    ]
    assert told(source) == [(name, *member) for name in ("c.png", "art/a.png") for member in members]
    assert source.rows[0].place.endswith("jobs.toml (strength-0.4_seed-1)")


def test_a_matrix_multiplies_every_job_and_lies_above_defaults(art: Path) -> None:
    source = read(
        art,
        '[defaults]\nstrength = 0.1\n[matrix]\nstrength = [0.4, 0.8]\n[[job]]\ninput = "c.png"\nseed = 3\n'
        '[[job]]\ninput = "art/a.png"\n',
    )
    assert told(source) == [
        ("c.png", "strength-0.4", {"seed": 3, "strength": 0.4}),
        ("c.png", "strength-0.8", {"seed": 3, "strength": 0.8}),
        ("art/a.png", "strength-0.4", {"strength": 0.4}),
        ("art/a.png", "strength-0.8", {"strength": 0.8}),
    ]


def test_variants_say_what_varies_in_words_that_a_file_may_have() -> None:
    long = "a house " * 20
    matrix = read_matrix(
        {
            "prompt": ["a red: house/door", "A red house door", "ж 日", "..", long, long + "."],
            "lora": [["dir/x.st:0.5"], []],
            "sigmas": [[3, 2]],
        },
        "x",
    )
    variants = [variant for _, variant in matrix.members()]
    prompts = list(dict.fromkeys(variant.partition("_")[0] for variant in variants))
    marked = [re.sub("~[0-9a-f]{6}", "~", prompt.removeprefix("prompt-")) for prompt in prompts]
    cut = "a-house-a-house-a-house-a-house-a~"
    assert marked == ["a-red-house-door~", "A-red-house-door~", "ж-日", "~", f"{cut}~", f"{cut}~"]
    assert [variant.partition("_")[2] for variant in variants[:2]] == ["lora-x.st-0.5", "lora-none"]
    assert len({variant.casefold() for variant in variants}) == 12


def test_a_value_that_a_name_can_have_has_no_mark_and_cannot_pose_as_two() -> None:
    named = read_matrix({"prompt": ["A house", "b"]}, "x")
    assert [variant for _, variant in named.members()] == ["prompt-A-house", "prompt-b"]
    posing = read_matrix({"negative-prompt": ["a_prompt-b", "a"], "prompt": ["c", "b_prompt-c"]}, "x")
    assert len({variant for _, variant in posing.members()}) == 4


def test_items_of_a_list_option_may_stand_alone(art: Path) -> None:
    source = read(art, 'inputs = "c.png"\n[matrix]\nlora = ["l.st", "no.st:0.5"]\n')
    assert [str(layer_of_row(row).values["lora"][0]) for row in source.rows] == [f"{art / 'l.st'}:1", "no.st:0.5"]


def test_paths_of_defaults_count_from_the_list(art: Path) -> None:
    source = read(art, 'inputs = "c.png"\n[defaults]\nvae = "l.st"\nmodel = "built-in"\n')
    assert source.defaults.values == {"vae": str(art / "l.st"), "model": "built-in"}


@pytest.mark.parametrize(
    ("job", "words"),
    [
        ("strength = 7", "job 1: strength is 7; expected a number above 0"),
        ("strength = 1979-05-27", "job 1: strength is datetime.date"),
        ('cfg-scale = 1\n"cfg_scale" = 2', "job 1: gives cfg-scale twice"),
        ('image = "b.png"', "job 1: gives input twice"),
        ("output = 3", "job 1: output is 3"),
        ("steps = 3\nsigmas = [1]", "job 1: steps and sigmas exclude each other"),
    ],
)
def test_a_job_that_cannot_be_meant_fails_alone(art: Path, job: str, words: str) -> None:
    source = read(art, f'[[job]]\ninput = "c.png"\n{job}\n[[job]]\ninput = "art/a.png"\n')
    bad, good = source.rows
    assert layer_of_row(good).values == {}
    with pytest.raises(JobFileError) as caught:
        layer_of_row(bad)
    assert words in str(caught.value)


def test_a_job_with_a_problem_fails_once_whatever_the_matrix(art: Path) -> None:
    source = read(art, '[matrix]\nseed = [1, 2]\n[[job]]\ninput = 3\n[[job]]\nprompt = "x"\n[[job]]\ninput = "c.png"\n')
    assert [(row.problem.partition("jobs.toml, ")[2], row.variant) for row in source.rows] == [
        ("job 1: input is 3; expected the path of a picture", ""),
        ("job 2: names no input", ""),
        ("", "seed-1"),
        ("", "seed-2"),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "names no picture (0 inputs)"),
        ("[defaults]\nsteps = 3", "names no picture (0 inputs)"),
        ("inputs = []", "names no picture (0 inputs)"),
        ("inputs = 3", "inputs has 3; expected a list of paths"),
        ('inputs = ["art/*.gif"]', "inputs: 'art/*.gif': no picture fits it (0 inputs)"),
        ('[[job]]\ninput = "art/*.gif"', "job 1: input: 'art/*.gif': no picture fits it"),
        ("x = ", "is not TOML"),
        (b"\xff\xfe\xff", "UTF-16 and is damaged"),
        (b"inputs = '\xff'", "is not a text file in UTF-8"),
        ("a" + ".a" * 100 + " = 1", "has too many dots"),
        ("[[jobs]]\nx = 1", "has 'jobs' on top; did you mean 'job'?"),
        ("strength = 0.5", "has 'strength' on top, which belongs into [defaults]"),
        ('input = "a.png"', "has 'input' on top; did you mean 'inputs'?"),
        ('[job]\ninput = "a.png"', "begin each job with a line [[job]]"),
        ("job = [1]", "begin each job with a line [[job]]"),
        ('[[job]]\ninput = "a.png"\nstrenght = 1', "job 1: no option is called 'strenght'; did you mean 'strength'?"),
        ("[defaults]\nstrenght = 1", "[defaults]: no option is called 'strenght'; did you mean 'strength'?"),
        ("[defaults]\nstrength = 2", "[defaults]: strength is 2"),
        ("[defaults]\noutput = 2", "[defaults]: output is 2"),
        ('[defaults]\ninput = "a.png"', "[defaults]: has 'input'; name the pictures of all jobs by inputs"),
        ("defaults = 3", "[defaults]: is no table"),
        ("matrix = 3", "[matrix]: is no table"),
        ("[matrix]\nstrength = 0.5", "[matrix]: strength is no list of values"),
        ("[matrix]\nstrength = []", "[matrix]: strength is no list of values"),
        ("[matrix]\nstrength = [0.5, 2]", "[matrix]: strength is 2"),
        ("[matrix]\nseed = [1, 2, 1.0]", "[matrix]: seed has '1' twice"),
        ("[matrix]\nsead = [1]", "[matrix]: no option is called 'sead'; did you mean 'seed'?"),
        ('[matrix]\ninput = ["a.png"]', "[matrix]: has 'input', which is no option"),
        ("[matrix]\ncfg-scale = [1]\ncfg_scale = [2]", "cfg-scale is there twice"),
        ('[matrix]\nseed = [1]\n[[job]]\ninput = "c.png"\nseed = 3', "job 1: sets seed, which [matrix] varies"),
    ],
)
def test_what_is_wrong_for_the_whole_list_is_refused_before_anything_runs(
    art: Path, text: str | bytes, words: str
) -> None:
    with pytest.raises((JobFileError, UsageError)) as caught:
        read(art, text)
    assert words in str(caught.value)
    assert "jobs.toml" in str(caught.value)


def test_a_product_over_the_limit_is_refused_and_not_made(art: Path) -> None:
    seeds = ", ".join(map(str, range(50_001)))
    with pytest.raises(JobFileError, match=r"more than 100,000 jobs; 2 pictures in 50,001 combinations"):
        read(art, f'inputs = ["c.png", "art/a.png"]\n[matrix]\nseed = [{seeds}]\n')
    listed = ", ".join(map(str, range(1, 1001)))
    keys = ("seed", "steps", "count", "max-side", "cfg-scale", "mask-padding", "mask-blur")
    for several in (4, 7):  # and more than Python counts the length of anything to
        lists = "".join(f"{key} = [{listed}]\n" for key in keys[:several])
        with pytest.raises(JobFileError, match=f"more than 100,000 jobs; 1 pictures in {1000**several:,} combinations"):
            read(art, f'inputs = "c.png"\n[matrix]\n{lists}')


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)
SAFE = re.compile(r"[\w.+~-]+")


@FUZZ
@given(
    st.lists(TEXT | st.sampled_from(["a", "A", "a_b", "a-b", "ß", "SS"]), min_size=1, max_size=5, unique=True),
    st.lists(st.floats(0.01, 1), min_size=1, max_size=3, unique=True),
    st.lists(TEXT.map("{}.st".format), min_size=1, max_size=3, unique=True),
)
def test_no_two_members_have_one_name(prompts: list[str], strengths: list[float], vaes: list[str]) -> None:
    """Not on a file system that takes capitals for small letters either, and no name is too long for one."""
    matrix = read_matrix({"prompt": prompts, "strength": strengths, "vae": vaes}, "x")
    members = list(matrix.members())
    assert len(members) == matrix.size == len(prompts) * len(strengths) * len(vaes)
    assert len({variant.casefold() for _, variant in members}) == len(members)
    for values, variant in members:
        assert values["prompt"] in prompts
        assert len(members) == 1 or SAFE.fullmatch(variant)
        assert len(variant.encode()) <= 120


def test_any_text_is_rows_or_an_error_of_ours(art: Path) -> None:
    counts = {"lists": 0, "errors": 0, "layers": 0}
    option = st.sampled_from(
        ["seed = 3", 'prompt = "x"', "strength = 0.5", "steps = 2.0", "sigmas = [2, 1]", "vae = 'l.st'"]
    )
    odd = st.sampled_from(
        ["input = 3", "x = 1", "steps = nan", "input = 'no.png'", "output = 'x.png'", "seed = [1]", "="]
    )
    varied = st.sampled_from(["seed = [1, 2]", "prompt = ['x', 'y']", "lora = [['l.st'], []]", "eta = [0]", "eta = []"])
    body = st.lists(option | option | odd, max_size=2, unique=True)
    inputs = st.sampled_from(["inputs = ['c.png']", "inputs = 'art'", ""])

    def whole(parts: tuple[str, list[str], list[str], list[list[str]]]) -> str:
        begin, defaults, matrix, jobs = parts
        listed = [line for job in jobs for line in ("[[job]]", *job)]
        return "\n".join([begin, "[defaults]", *defaults, "[matrix]", *matrix, *listed])

    lists = st.tuples(inputs, st.lists(option, max_size=1), st.lists(varied, max_size=2), st.lists(body, max_size=3))

    @settings(FUZZ, max_examples=300)
    @given(lists.map(whole) | st.binary(max_size=30).map(lambda data: data.decode("latin-1")))
    def check(text: str) -> None:
        try:
            rows = read(art, text).rows
        except (JobFileError, UsageError):
            counts["errors"] += 1
            return
        counts["lists"] += 1
        for row in rows:
            try:
                layer_of_row(row)
                counts["layers"] += 1
            except JobFileError as problem:
                counts["errors"] += "jobs.toml" in str(problem)

    check()
    assert min(counts.values()) > 30, counts
