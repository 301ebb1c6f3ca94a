"""Calls into transformers and peft that load something: quiet, and with their reason in one line where they fail."""

from __future__ import annotations

from registry.errors import TunekitError, UsageError, from_os_error


def quiet_libraries() -> None:
    """Switch off transformers' and peft's progress bars and notes to developers: a run has lines of its own."""
    import logging
    import warnings

    from transformers.utils import logging as transformers_logging

    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|peft)\.")
    # said once for each size of layer: trainkit.methods.oft says it with the key
    warnings.filterwarnings("ignore", message=r"Invalid `(oft_block_size|r)`")
    # of 8 bits, once for each layer: the inputs are rounded to what the weights are
    warnings.filterwarnings("ignore", message=r"MatMul8bitLt: inputs will be cast")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    transformers_logging.disable_progress_bar()


def loaded(name: str, load):
    """What ``load`` returns. Raises ``UsageError`` with the library's own reason where it cannot load ``name``."""
    quiet_libraries()
    try:
        return load()
    except TunekitError:
        raise
    except OSError as error:
        if error.errno is not None:
            raise from_os_error(error, f"loading {name}") from error
        raise UsageError(f"cannot be loaded: {_first_lines(error)}", where=name) from None
    except Exception as error:  # the library raises many kinds for a folder it cannot use
        raise UsageError(f"cannot be loaded: {type(error).__name__}: {_first_lines(error)}", where=name) from error


def _first_lines(error: BaseException) -> str:
    return " ".join(str(error).strip().splitlines()[:2])[:300]
