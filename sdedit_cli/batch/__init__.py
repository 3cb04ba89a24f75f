"""Many edits at once: which pictures go in and out (`targets`), the run over them (`run`), what programs hear of it
(`events`). Who edits is a `Worker`, who tells people is a `Reporter` (`worker`): both are handed in."""
