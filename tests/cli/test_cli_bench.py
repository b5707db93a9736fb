"""`mlip bench`."""

import csv
import json

import pytest
import torch

from mlip.benchmarks import advice, products, roofline


@pytest.fixture(autouse=True)
def small_machine(monkeypatch):
    """The machine's peak is of no interest here, and takes seconds to measure."""
    monkeypatch.setattr(roofline, "_MATRIX_SIZE", {"cpu": 32})
    monkeypatch.setattr(roofline, "_COPY_BYTES", {"cpu": 4096})


SMALL = ("bench", "tensor-products", "--channels", 2, "--batch", 10, "--quick", "--backends", "clebsch_gordan,e3nn")


def test_tensor_products(run, tmp_path):
    output = tmp_path / "new" / "results"
    options = ("--degrees", "1,2", "--settings", "siso", "--couplings", "clebsch_gordan,gaunt", "--threads", 1)
    result = run(*SMALL, *options, "--passes", "forward,full", "-o", output)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    for fact in ("SISO", "clebsch_gordan", "× e3nn", "Skipped, for reasons in table.md: 2", str(output)):
        assert fact in result.stdout
    files = {path.name for path in output.iterdir()}
    assert files == {
        "results.json",
        "results.csv",
        "table.md",
        "time_forward.png",
        "time_full.png",
        "time_per_path.png",
    }
    content = json.loads((output / "results.json").read_text())
    assert content["environment"]["threads"] == 1
    measured = [each for each in content["records"] if not each["reason"]]
    # Degree 1 has no Gaunt path.
    assert len(measured) == (2 + 1) * 2 * 2
    with (output / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(content["records"])
    assert {row["device"] for row in rows} == {content["environment"]["device"]}
    assert "no path in the setting siso at degree 1" in (output / "table.md").read_text()


def test_interrupted_run_keeps_what_it_has(run, tmp_path, monkeypatch):
    measure = products._run_degree

    def interrupted(plan, setting, degree, roofline):
        if degree == 2:
            raise KeyboardInterrupt
        return measure(plan, setting, degree, roofline)

    monkeypatch.setattr(products, "_run_degree", interrupted)
    options = ("--degrees", "1-3", "--settings", "siso", "--couplings", "clebsch_gordan", "--passes", "forward")
    result = run(*SMALL, *options, "-o", tmp_path)
    assert result.exit_code == 130
    assert f"What was measured so far is in {tmp_path}." in result.stderr
    assert {each["degree"] for each in json.loads((tmp_path / "results.json").read_text())["records"]} == {1}


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        (("--degrees", "0-2"), "the degrees hold 0"),
        (("--degrees", "11"), "the degrees hold 11"),
        (("--degrees", "one"), "the degrees are 'one'"),
        (("--settings", "miso"), "unknown setting 'miso'"),
        (("--couplings", "gaunt,gount"), "unknown coupling 'gount'"),
        (("--passes", "forwards"), "unknown pass 'forwards': did you mean 'forward'"),
        (("--backends", "clebsh_gordan"), "unknown backend 'clebsh_gordan': did you mean 'clebsch_gordan'"),
        (("--backends", "clebsch_gordan:algoritm=x"), "has no option 'algoritm'"),
        (("--backends", "spherical_grid", "--couplings", "clebsch_gordan"), "nothing could be measured"),
        (("--device", "cuda:7"), "GPUs are there"),
        (("--device", "abacus"), "no device 'abacus'"),
        (("--device", "meta"), "'meta' cannot be timed"),
        (("--degrees", ""), "the degrees are ''"),
        (("--backends", ""), "unknown backend ''"),
        (("--channels", 0), "channels is 0"),
        (("--batch", 0), "batch is 0"),
        (("--memory-limit", 0), "the memory limit is 0.0 GiB"),
        (("--memory-limit", 1e-9), "more than the limit of 1e-09 GiB"),
    ],
)
def test_mistakes_are_one_sentence(fails, tmp_path, options, fact):
    assert fact in fails(*SMALL, "--degrees", "1", "--settings", "mimo", "-o", tmp_path, *options)


COMPILED = [("compiled", "ase"), ("compiled", "forces")]


def test_model_file(run, model_file, tmp_path):
    options = ("--backends", "clebsch_gordan,spherical_grid", "--atoms", "3,6", "--quick", "--threads", 1)
    result = run("bench", "model", model_file, *options, "-o", tmp_path)
    assert result.exit_code == 0, result.output
    for fact in ("as it is", "/day", "training", "clebsch_gordan, per_path", "Skipped, for reasons in table.md: 2"):
        assert fact in result.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"results.json", "results.csv", "table.md"}
    records = json.loads((tmp_path / "results.json").read_text())["records"]
    measured = {(each["atoms"], each["contender"], each["measured"]) for each in records if not each["reason"]}
    names = [("as it is", "ase"), ("as it is", "forces"), ("as it is", "training"), *COMPILED]
    assert measured == {(atoms, *name) for atoms in (3, 6) for name in names}
    assert "Arithmetic of compiled, 6 atoms" in result.stdout
    table = (tmp_path / "table.md").read_text()
    assert "- clebsch_gordan: 'clebsch_gordan' is the model as it is" in table
    assert "- spherical_grid: the backend 'spherical_grid' computes none of the model's products" in table


def test_model_of_a_configuration(run, tmp_path):
    model = "{architecture: mace, hidden_irreps: 2x0e+2x1o, l_max: 1, layers: 1, correlation: 2, cutoff: 3.0}"
    (tmp_path / "config.yaml").write_text(f"model: {model}\ndata: {{train: absent.xyz}}\n")
    options = ("--config", tmp_path / "config.yaml", "--backends", "spherical_grid", "--atoms", 3, "--quick")
    result = run("bench", "model", *options, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    records = json.loads((tmp_path / "out" / "results.json").read_text())["records"]
    assert {each["contender"] for each in records} == {"as it is", "compiled", "spherical_grid"}
    assert {each["reason"] for each in records} == {""}


def test_mistakes_about_models(fails, model_file, tmp_path):
    output = ("-o", tmp_path / "out", "--quick")
    assert "absent.mlip" in fails("bench", "model", tmp_path / "absent.mlip", *output)
    assert "absent.yaml" in fails("bench", "model", "--config", tmp_path / "absent.yaml", *output)
    assert "give one of the two" in fails("bench", "model", model_file, "--config", "x.yaml", *output)
    assert "the numbers of atoms are '6,x'" in fails("bench", "model", model_file, "--atoms", "6,x", *output)
    assert "unknown backend 'e3nn'" in fails("bench", "model", model_file, "--backends", "e3nn", *output)
    assert not (tmp_path / "out").exists()


def test_advice(run, monkeypatch):
    """With times that are made up, so that it is known which backend is the fastest."""
    asked = []

    def measured(spec, channels, channels_in2, batch, dtype, device):
        asked.append((spec.coupling, spec.weights, len(spec.paths), channels, channels_in2, batch, dtype, device))
        if spec.weights == "per_path":
            return {"clebsch_gordan": 0.001 * channels} if spec.coupling == "gaunt" else {}
        # Which backend wins depends on the channels; the sum over their numbers counts.
        return {"clebsch_gordan": 0.004, "spherical_grid": 0.001 * channels, "cp": 0.1}

    monkeypatch.setattr(advice, "measure_backends", measured)
    result = run("bench", "advise", "--irreps", "2x0e+1x1o+2x1o", "--edges", 50, "--l-max", 1, "--dtype", "float64")
    assert result.exit_code == 0, result.output
    # Two channels: 0e and 1o with 0e + 1o; one channel: 1o alone, both to 0e and 1o.
    assert asked[0] == ("clebsch_gordan", "per_path", 4, 2, 1, 50, torch.float64, "cpu")
    assert asked[1] == ("clebsch_gordan", "per_path", 2, 1, 1, 50, torch.float64, "cpu")
    lines = result.stdout.splitlines()
    assert "coupling clebsch_gordan, weights per_path: no backend computes it exactly" in lines
    assert "coupling gaunt, weights per_path: clebsch_gordan" in lines
    assert "coupling gaunt, weights per_degree: spherical_grid" in lines
    (row,) = [line.split() for line in lines if "fastest" in line and "per_path" in line]
    assert row == ["gaunt", "per_path", "6", "clebsch_gordan", "3", "fastest"]


def test_advice_that_is_measured(run):
    options = ("--edges", 20, "--l-max", 1, "--coupling", "gaunt", "--weights", "per_path", "--threads", 1)
    result = run("bench", "advise", "--irreps", "2x0e+2x1o", *options)
    assert result.exit_code == 0, result.output
    assert "coupling gaunt, weights per_path: clebsch_gordan" in result.stdout


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        (("--irreps", "16x0z"), "'16x0z' is no list of irreps"),
        (("--irreps", "0x0e"), "'0x0e' is no list of irreps"),
        (("--irreps", "1x0o"), "no path of the coupling 'gaunt' leads from 1x0o"),
        (("--edges", 0), "the number of edges is 0"),
        (("--l-max", 12), "l_max is 12"),
        (("--coupling", "gount"), "unknown coupling 'gount'"),
        (("--weights", "per_pth"), "unknown weight structure 'per_pth': did you mean 'per_path'"),
    ],
)
def test_advice_cannot_be_given(fails, options, fact):
    first = ("bench", "advise", "--irreps", "2x0e", "--edges", 10, "--coupling", "gaunt", "--l-max", 1)
    assert fact in fails(*first, *options)


@pytest.fixture
def few_kernels(monkeypatch):
    from mlip.benchmarks import fused_rate, kernel_cases

    monkeypatch.setattr(fused_rate, "_TURNS", 1000)
    monkeypatch.setattr(kernel_cases, "CASES", [kernel_cases.harmonics_cases])


def test_kernels(run, tmp_path, few_kernels):
    options = ("--atoms", 3, "--channels", 4, "--l-max", 1, "--threads", 1, "--quick", "-o", tmp_path)
    result = run("bench", "kernels", *options)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    for fact in ("spherical_harmonics", "gradients", "3 atoms, 168 edges", "large copy", "table.md"):
        assert fact in result.stdout
    content = json.loads((tmp_path / "results.json").read_text())
    assert [record["measured"] for record in content["records"]] == ["forward", "gradients"]
    assert all(record["kernel_ms"] > 0 for record in content["records"])
    assert content["environment"]["peak_gflops"] > 0
    assert "| spherical_harmonics | forward |" in (tmp_path / "table.md").read_text()


def test_kernels_compiled_only(run, fails, tmp_path, monkeypatch):
    from mlip.benchmarks import compiled_kernels
    from mlip_kernels.radial_table import gpu

    solve = next(case for case in gpu.compile_cases() if case.name == "radial_solve")
    monkeypatch.setattr(compiled_kernels, "compile_cases", lambda: [("radial_table", solve)])
    result = run("bench", "kernels", "--compile-only", "sm_80,gfx942", "-o", tmp_path)
    assert result.exit_code == 0, result.output
    assert "2 compilations, none of which spills." in result.stdout
    content = json.loads((tmp_path / "compiled.json").read_text())
    assert [(each["target"], each["spills"]) for each in content["records"]] == [("sm_80", 0), ("gfx942", 0)]
    assert "'sm_10'" in fails("bench", "kernels", "--compile-only", "sm_90,sm_10", "-o", tmp_path)
