"""`mlip quickstart`: train on the sample that ships, test, report, and run dynamics with the new model."""

from pathlib import Path

import typer

from mlip.cli.console import console, progress

_CONFIG = Path("configs/quickstart.yaml")
_STEPS, _TIMESTEP, _TEMPERATURE = 500, 0.5, 300.0  # fs, K


def quickstart() -> None:
    """Train on the sample data, test, write a report, and run molecular dynamics; minutes on two cores."""
    from mlip.errors import FileMissingError

    if not _CONFIG.is_file():
        raise FileMissingError(
            f"'{_CONFIG}' is not in {Path.cwd()}; run make quickstart in the folder of the repository"
        )
    from mlip.training.config import load_config
    from mlip.training.run import train

    config = load_config(_CONFIG)
    try:
        run = train(config, overwrite=True, console=console)
    except KeyboardInterrupt:
        console.print(f"Interrupted; go on with:\n  mlip train {_CONFIG} --resume")
        raise typer.Exit(130) from None
    _simulate(run.folder.model, Path(config.data.test[0]))


def _simulate(model: Path, structures: Path) -> None:
    """Dynamics of the first ethanol among the structures, at constant energy."""
    from mlip.calculators import MLIPCalculator
    from mlip.calculators.dynamics import Step, run_dynamics
    from mlip.cli.md import print_summary
    from mlip.data.reading import iterate_structures

    atoms = next(each for each in iterate_structures(structures, None) if each.config_type == "ethanol").to_atoms()
    atoms.calc = MLIPCalculator(model)
    atoms.get_forces()  # What is compiled is compiled now, and not in front of a bar that stands still.
    with progress("Simulating ethanol", _STEPS) as bar:

        def observe(step: Step) -> None:
            if step.number:
                bar.advance()

        summary = run_dynamics(
            atoms, ensemble="nve", temperature=_TEMPERATURE, timestep=_TIMESTEP, steps=_STEPS, observe=observe
        )
    print_summary(summary, "nve")
