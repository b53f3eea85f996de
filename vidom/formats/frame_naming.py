"""What the files in a folder of extracted frames are called."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vidom.errors import BadDataError

__all__ = ["FrameNaming"]


@dataclass(frozen=True)
class FrameNaming:
    """File names with one number, such as `img_{:05}.jpg`; `first` is that of the first frame.

    Without `first` each folder shows it: mmaction2's tools number frames from 1, denseflow and others from 0.
    """

    template: str = "img_{:05}.jpg"
    first: int | None = None

    def path(self, folder: Path, number: int) -> Path:
        """Return the file of the frame with this number."""
        return folder / self.template.format(number)

    def first_in(self, folder: Path, total_frames: int) -> int:
        """Return the number of the folder's first frame: 0 where a frame 0 exists, else 1.

        `total_frames` of them are listed, of which a folder may have more. Raises BadDataError where it has frames 0 to
        `total_frames`, because either of the two could be the surplus one.
        """
        if self.first is not None:
            return self.first
        if not self.path(folder, 0).is_file():
            return 1
        last = self.path(folder, total_frames)
        if last.is_file() and not self.path(folder, total_frames + 1).is_file():
            raise BadDataError(
                f"The folder {folder} has both a frame {self.template.format(0)} and a frame {last.name}, one more "
                f"than the {total_frames} that the list declares, so it is not clear where the video begins. Set the "
                "recipe's dataset.first_frame to 0 or 1, or correct the list."
            )
        return 0
