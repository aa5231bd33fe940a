"""What stands around a stage's work and changes no bit of it: messages, progress, logs, locks, watching over `dvc`.

`dvc.yaml` does not name it, so a change here re-runs nothing (docs/design.md says why that can be trusted). It may be
imported by everything, and imports of the project only the pins (`stages`) and the writing of files (`stages.files`).
"""
