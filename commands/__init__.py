"""What people run beside DVC: `brainmri COMMAND`. Commands may use any stage; no stage uses them."""

import stages as _pinned  # noqa: F401  first: pins the instruction set before NumPy or torch can load
