"""The output folder of a run: what is in it, and when a run may begin there."""

import shutil
from pathlib import Path

from omegaconf import OmegaConf

from mlip.data.files import written_beside
from mlip.errors import TrainingError
from mlip.training.config import TrainingConfig


class RunFolder:
    """Paths of the files of a run."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.model = self.path / "model.mlip"  # The best weights so far.
        self.checkpoint = self.path / "last.ckpt"  # What a run is resumed from.
        self.metrics = self.path / "metrics.csv"
        self.report = self.path / "report.html"
        self.config = self.path / "config.yaml"
        self.tensorboard = self.path / "tensorboard"

    def _present(self) -> list[Path]:
        files = (self.checkpoint, self.model, self.metrics, self.report, self.config, self.tensorboard)
        return [file for file in files if file.exists()]

    def refuse_other_run(self, overwrite: bool) -> None:
        """Raise TrainingError if a run is here already that may not be overwritten."""
        if not overwrite and (present := self._present()):
            raise TrainingError(
                f"'{self.path}' already holds a run ({present[0].name}); continue it with --resume, replace it with "
                "--overwrite, or choose another folder with output=..."
            )

    def prepare(self, config: TrainingConfig, keep: bool) -> None:
        """Make the folder, remove the files of an older run unless they are kept, and write the configuration.

        The configuration is written with everything that the data filled in, such that it can be trained again.
        """
        for file in self._present() if not keep else []:
            shutil.rmtree(file) if file.is_dir() else file.unlink()
        self.path.mkdir(parents=True, exist_ok=True)
        with written_beside(self.config) as partial:
            OmegaConf.save(OmegaConf.create(config.model_dump(mode="json")), partial)
