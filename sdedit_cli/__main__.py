"""python -m sdedit_cli, and the command `sdedit`: signals end it in order even while it is being imported."""

import gc
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

_ENDING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    # Nothing has been done yet, and little is imported: one line for people, one for programs, and out.
    for other in _ENDING:
        signal.signal(other, signal.SIG_IGN)
    code, error = (130, "interrupted") if number == signal.SIGINT else (143, "terminated")
    end = (
        '{"schema": "sdedit.event/1", "event": "end", "ok": false, "saved": 0, "skipped": 0, "failed": 0, '
        f'"exit_code": {code}, "error": "{error}", "word": "{error}"}}\n'
    )
    for stream, text in ((2, f"sdedit: {error}\n"), (1, end if "--json" in sys.argv else "")):
        try:
            os.write(stream, text.encode())
        except OSError:
            continue  # closed or full, and there is nowhere else to say it
    os._exit(code)


def main() -> NoReturn:
    """Runs the command line of this process and exits with its code."""
    for number in _ENDING:
        # What was ignored from outside stays so, as `nohup` has it of SIGHUP.
        if number in (signal.SIGINT, signal.SIGTERM) or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _leave)
    # What a start makes stays to its end; the usual thresholds look through all of it, torch included, again and again.
    gc.set_threshold(50_000, 20, 100)
    from .waiting import settle

    settle()  # torch is not imported yet
    from .cli.main import main as run

    run()


if __name__ == "__main__":
    main()
