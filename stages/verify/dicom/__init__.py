"""DICOM files -> grey levels as a viewer shows them: bytes in, frames uint8 [H, W] out.

`file` reads, `codecs` decompresses, `header` says how a frame is shown, `grey` shows it; `place` says where it stands.
"""

from stages.verify.dicom.file import MAX_FRAMES, frames
from stages.verify.dicom.place import stack

__all__ = ["MAX_FRAMES", "frames", "stack"]
