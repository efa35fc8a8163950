"""
A study of a model while it is trained, at some of its steps.

>>> watch = grounding.DuringTraining("gaps", "scenes:200", "watched", every=100)
>>> trainer = Trainer(..., callbacks=[watch.callback(processor)])
>>> watch.curve()
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Optional, Union

import pyarrow
from captum_pairs import model as models
from captum_pairs.attr import validation
from captum_pairs.grounding.comparing import curve
from captum_pairs.grounding.data.row import Row
from captum_pairs.grounding.results import load, Results
from captum_pairs.grounding.running import run
from captum_pairs.grounding.study import Study
from captum_pairs.model import DualEncoder
from transformers import TrainerCallback

__all__ = ["DuringTraining"]


class DuringTraining:
    """
    A study of a model while it is trained: called with a step and the model, it writes
    OUT/step-00000100 and so on; :meth:`curve` reads them all.

    >>> watch = grounding.DuringTraining("gaps", "scenes:200", "watched", every=100)
    >>> trainer = Trainer(..., callbacks=[watch.callback(processor)])
    >>> # or, in a loop of one's own (open_clip)
    >>> watch(step, captum_pairs.load(model, (preprocess, tokenizer)))

    Args:
        study, data: as :func:`captum_pairs.grounding.run` takes them.
        out: the directory of all steps' results.
        every: so many steps; others are passed over.
        **settings: further arguments of :func:`captum_pairs.grounding.run`.

    Raises:
        InvalidArgumentError: naming ``every``.
    """

    def __init__(
        self,
        study: Union[str, Study],
        data: Union[str, Sequence[Row]],
        out: Union[str, Path],
        every: int = 1,
        **settings: Any,
    ) -> None:
        self.study, self.data, self.out = study, data, Path(out)
        validation.positive_int("every", every)
        self.every, self.settings = every, settings

    def __call__(
        self, step: int, model: Union[DualEncoder, Callable[[], DualEncoder]]
    ) -> Optional[Results]:
        """
        The results at a step; None at one that is passed over.

        Args:
            step: from 0.
            model: as it is at this step; or what makes it, called if it is needed. It
                is studied in evaluation mode, and in its own mode afterwards.
        """
        if step % self.every:
            return None
        encoders = model if isinstance(model, DualEncoder) else model()
        modules = [
            encoder.module
            for encoder in (encoders.first, encoders.second)
            if encoder.module is not None
        ]
        modes = [
            (part, part.training) for module in modules for part in module.modules()
        ]
        for module in modules:
            module.eval()
        try:
            out = self.out / f"step-{step:08d}"
            return run(
                self.study,
                self.data,
                encoders,
                out,
                **{"processes": 1, **self.settings},
            )
        finally:
            for part, mode in modes:
                part.training = mode

    def curve(self) -> pyarrow.Table:
        """Over all steps that are there: see :func:`curve`."""
        folders = sorted(self.out.glob("step-*"))
        names = [str(int(folder.name.partition("-")[2])) for folder in folders]
        return curve([load(folder) for folder in folders], names)

    def callback(self, processor: Any) -> TrainerCallback:
        """
        For ``transformers.Trainer(callbacks=[...])``.

        Args:
            processor: of the model that is trained, as :func:`captum_pairs.load` takes
                it.
        """
        return _Watching(self, processor)


class _Watching(TrainerCallback):
    def __init__(self, watch: DuringTraining, processor: Any) -> None:
        self.watch, self.processor = watch, processor

    def _look(self, state: Any, model: Any) -> None:
        if not state.is_world_process_zero:
            return  # of several processes that train the same model, one looks at it
        self.watch(int(state.global_step), lambda: models.load(model, self.processor))

    def on_train_begin(
        self, args: Any, state: Any, control: Any, **kwargs: Any
    ) -> None:
        self._look(state, kwargs["model"])

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._look(state, kwargs["model"])
