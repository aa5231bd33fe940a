"""DICOM files -> grey levels as a viewer shows them: bytes in, frames uint8 [H, W] out.

`file` reads, `codecs` decompresses, `header` says how a frame is shown, `grey` shows it.
"""

from commands.predict.dicom.file import MAX_FRAMES, frames, is_dicom

__all__ = ["MAX_FRAMES", "frames", "is_dicom"]
