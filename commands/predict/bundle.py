"""The one zip that `brainmri export zip` writes: what of a study is in it, and its network, ready to be asked."""

from __future__ import annotations

import lzma
import shutil
import zipfile
import zlib
from pathlib import Path

from commands.predict.model import TORN, Model
from commands.scratch import scratch
from stages.runtime import Device
from stages.shell.errors import InputError

WEIGHTS, PREDICTOR = "models/model.safetensors", "models/predictor.json"
INDEX, MANIFEST, DESCRIPTORS = "data/prepared/index.csv", "data/manifest.csv", "data/descriptors.npy"
MEMBERS = (WEIGHTS, PREDICTOR, INDEX, MANIFEST, DESCRIPTORS)
LONGEST = 4_000_000_000  # bytes of all members: far above any study's, far below what fills a disk

DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, ValueError, IsADirectoryError)


def load(path: Path, device: Device, gradcam_folder: Path | None = None) -> Model:
    """Return the network of a zip, which lies in a temporary folder as a study does while it is read.

    Raises
    ------
    InputError
        Where it is no such zip, is damaged, unfolds into more than a study can be, or its files do not belong together.
    """
    with scratch("model") as folder:
        _unpack(path, folder)
        try:
            model = Model(folder, device, gradcam_folder)
        except InputError as error:
            raise InputError(f"--model {path}: {str(error).replace(f'{folder}/', '')}") from None
        except TORN:
            raise _other(path, "its tables do not belong together") from None
    model.study = path  # below which there is nothing: the folder has gone
    return model


def _unpack(path: Path, folder: Path) -> None:
    """Write the members that are known by name: no other name is used for a path."""
    try:
        with zipfile.ZipFile(path) as file:
            members = [file.getinfo(name) for name in MEMBERS]
            if sum(member.file_size for member in members) > LONGEST:
                raise _other(path, f"it unfolds into over {LONGEST:,} bytes")
            for member in members:
                target = folder / member.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                with file.open(member) as source, target.open("wb") as written:
                    shutil.copyfileobj(source, written)  # no more than its header says
    except FileNotFoundError:
        raise _other(path, "no such file") from None
    except KeyError as error:
        raise _other(path, str(error.args[0])) from None
    except DAMAGED as error:
        raise _other(path, f"no readable zip ({error})") from None
    except OSError as error:
        if error.strerror:  # the disk's; a damaged bzip2 stream has none
            raise
        raise _other(path, f"no readable zip ({error})") from None


def _other(path: Path, found: str) -> InputError:
    return InputError(f"--model {path}: {found}; expected what `brainmri export zip` writes")
