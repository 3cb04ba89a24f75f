"""resolve: where a model is on this machine: a path, or a Hub id or file URL through huggingface_hub's cache."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from glob import escape
from pathlib import Path, PurePosixPath
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from ..errors import ModelError, warn
from .checkpoint.weight_files import choose, shards_of

_ID = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")
_URL = re.compile(r"/(?P<repo>[^/]+/[^/]+)/(?:blob|resolve|raw)/(?P<revision>[^/]+)/(?P<file>.+)")
_TEXT_SUFFIXES = (".json", ".txt", ".model")
_HOSTS = ("huggingface.co", "www.huggingface.co", "hf.co")


@dataclass(frozen=True)
class _Repository:
    """A repository of the Hub, and the file in it where one is meant."""

    name: str
    revision: str | None
    file: str | None


def resolve(
    source: str | os.PathLike[str],
    cache_dir: str | os.PathLike[str] | None = None,
    force_download: bool = False,
    proxies: Mapping[str, str] | None = None,
    local_files_only: bool = False,
    revision: str | None = None,
    subfolder: str | None = None,
    token: str | bool | None = None,
    variant: str | None = None,
    use_safetensors: bool | None = None,
    weight_name: str | None = None,
    mirror: str | None = None,
    resume_download: bool | None = None,
) -> Path:
    """The file or folder that `source` names. A path that exists always wins; then nothing below touches the network.

    Args:
        source: A path, a Hub id ('owner/name'), or the URL of a file on the Hub.
        cache_dir: Where huggingface_hub keeps downloads; None for its own choice.
        force_download: Fetch again what is there already.
        proxies: {'https': 'http://host:port'}.
        local_files_only: Use the cache and no network.
        revision: A branch, tag or commit.
        subfolder: A folder within the source.
        token: For private models; True for the one that `hf auth login` stored.
        variant: Of a folder, fetch these weights ('fp16') where there are any.
        use_safetensors: Of a folder, fetch only safetensors (True) or none (False).
        weight_name: A file within the source.
        mirror, resume_download: Accepted for scripts that give them; they do nothing.

    Raises:
        ModelError: It is nowhere, cannot be had, or may not be downloaded.
    """
    for name, value in (("mirror", mirror), ("resume_download", resume_download)):
        if value is not None:
            warn(f"{name} does nothing any more: transfers are always resumed", FutureWarning)
    path = Path(source).expanduser()
    if path.exists():
        return _within(path, subfolder, weight_name)
    repository = _repository(str(source), revision)
    if repository is None:
        raise ModelError(f"{source}: no such file or folder, and no Hub id (owner/name) or Hub file URL either")
    hub = _Hub(
        repository,
        str(source),
        cache_dir,
        force_download,
        local_files_only or _is_offline(),
        token,
        os.getenv("HF_ENDPOINT"),
    )
    with _through(proxies), _silent(hub.offline):
        if repository.file or weight_name:
            return hub.file("/".join(part for part in (subfolder, repository.file or weight_name) if part))
        return hub.folder(subfolder, variant, use_safetensors)


def _within(path: Path, subfolder: str | None, weight_name: str | None) -> Path:
    inner = path.joinpath(*(part for part in (subfolder, weight_name) if part)) if path.is_dir() else path
    if not inner.exists():
        raise ModelError(f"{inner}: no such file or folder in {path}")
    return inner


def _repository(source: str, revision: str | None) -> _Repository | None:
    if "://" in source:
        parts = urlsplit(source)
        own = urlsplit(os.getenv("HF_ENDPOINT", "")).netloc
        match = _URL.fullmatch(unquote(parts.path))
        if match is None or (parts.hostname not in _HOSTS and parts.netloc != own):
            raise ModelError(
                f"{source}: not the URL of a file on the Hub (https://huggingface.co/OWNER/NAME/blob/main/FILE); "
                "download it and give its path"
            )
        return _Repository(match["repo"], revision or match["revision"], match["file"])
    if _ID.fullmatch(source) and Path(source).suffix.lower() not in (".safetensors", ".ckpt", ".pt", ".bin"):
        return _Repository(source, revision, None)
    return None


def _is_offline() -> bool:
    return os.getenv("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


@dataclass(frozen=True)
class _Hub:
    """One repository, with the options that every request to it has."""

    repository: _Repository
    source: str
    cache_dir: str | os.PathLike[str] | None
    force_download: bool
    offline: bool
    token: str | bool | None
    endpoint: str | None

    def file(self, name: str) -> Path:
        return Path(
            self._asked(lambda: _library().hf_hub_download(self.repository.name, name, **self._options()), name)
        )

    def folder(self, subfolder: str | None, variant: str | None, use_safetensors: bool | None) -> Path:
        prefix = f"{subfolder}/" if subfolder else ""
        if self.offline:
            return self._cached_folder(prefix)
        api = _library().HfApi(endpoint=self.endpoint, token=self.token)
        info: Any = self._asked(lambda: api.model_info(self.repository.name, revision=self.repository.revision), None)
        names = [str(sibling.rfilename) for sibling in cast("list[Any]", info.siblings or [])]
        wanted = wanted_files([name for name in names if name.startswith(prefix)], variant, use_safetensors)
        if not wanted:
            raise ModelError(f"{self.source}: holds no model{f' in {subfolder}' if subfolder else ''}; check its page")
        patterns = [escape(name) for name in wanted]
        snapshot = self._asked(
            lambda: _library().snapshot_download(self.repository.name, allow_patterns=patterns, **self._options()), None
        )
        return Path(snapshot) / prefix

    def _options(self) -> dict[str, Any]:
        return {
            "revision": self.repository.revision,
            "cache_dir": self.cache_dir,
            "force_download": self.force_download and not self.offline,
            "token": self.token,
            "local_files_only": self.offline,
            "endpoint": self.endpoint,
        }

    def _cached_folder(self, prefix: str) -> Path:
        with suppress(ModelError):
            return self.file(f"{prefix}model_index.json").parent
        return self.file(f"{prefix}config.json").parent

    def _asked(self, request: Callable[[], Any], name: str | None) -> Any:
        """The request's answer; what goes wrong on the way becomes a ModelError that says what to do."""
        from huggingface_hub import errors

        what = f"{self.source}{f' ({name})' if name else ''}"
        revision = self.repository.revision or "main"
        try:
            return request()
        except errors.GatedRepoError:
            problem = "its owner asks for a licence to be accepted: do so on its page, then `hf auth login`"
        except errors.RepositoryNotFoundError:
            problem = "no such model on the Hub; check the name, and log in (`hf auth login`) if it is private"
        except errors.RevisionNotFoundError:
            problem = f"has no revision '{revision}'; leave it out or check the branches on its page"
        except errors.LocalEntryNotFoundError as error:
            problem = "cannot be reached; check the connection, then run it again: it goes on where it stopped"
            if self.offline:
                problem = "no such path here, and not in the Hub's cache; allow the network with --download"
            elif error.__cause__ is not None:
                problem += f" ({_brief(error.__cause__)})"
        except errors.EntryNotFoundError:
            problem = f"no such file in revision '{revision}'; check the list of files on its page"
        except errors.HFValidationError as error:
            problem = f"not a Hub id ({_brief(error)})"
        except OSError as error:
            problem = _broken_off(error)
        except Exception as error:
            # The network library's own errors have no common parent that is older than its last release.
            if not type(error).__module__.startswith(("httpx", "httpcore", "requests", "urllib3")):
                raise
            problem = _broken_off(error)
        raise ModelError(f"{what}: {problem}")


def _broken_off(error: BaseException) -> str:
    """What went wrong with a transfer: a name that nobody knows is no transfer that could go on."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, socket.gaierror):
            return "the name of the Hub's server is not known here; check the connection, or $HF_ENDPOINT"
        cause = cause.__cause__ or cause.__context__
    return f"the transfer failed ({_brief(error)}); run it again: it goes on where it stopped"


def _library() -> Any:
    """huggingface_hub, imported when a Hub id is met: a path never needs it. Its signatures are typed in part only."""
    import huggingface_hub

    return huggingface_hub


def _brief(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]


def wanted_files(names: Collection[str], variant: str | None, use_safetensors: bool | None) -> list[str]:
    """Of a repository's files, those that loading it reads: configs, tokenizer, and one set of weights a folder."""
    folders: dict[PurePosixPath, list[str]] = {}
    for name in names:
        folders.setdefault(PurePosixPath(name).parent, []).append(PurePosixPath(name).name)
    wanted: list[str] = []
    for folder, files in folders.items():
        chosen = choose(files, variant, use_safetensors)
        # A shard index that was not chosen belongs to weights that are not fetched.
        kept = [file for file in files if file.endswith(_TEXT_SUFFIXES) and ".index." not in file]
        if chosen:
            kept += [chosen, *shards_of(chosen, files)]
        wanted += [str(folder / file) for file in kept]
    return wanted


@contextmanager
def _silent(offline: bool) -> Generator[None, None, None]:
    """No request at all inside the block: looking into its cache, huggingface_hub would ask who is calling it."""
    if not offline:
        yield
        return
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


@contextmanager
def _through(proxies: Mapping[str, str] | None) -> Generator[None, None, None]:
    """Requests go through `proxies` inside the block. huggingface_hub takes them from the environment only."""
    # Of both spellings urllib takes the small letters where it finds them.
    names = {
        spelled: url
        for scheme, url in (proxies or {}).items()
        for spelled in (f"{scheme.upper()}_PROXY", f"{scheme.lower()}_proxy")
    }
    if not names:
        yield
        return
    before = {name: os.environ.get(name) for name in names}
    renew = cast("Callable[[], None]", getattr(_library(), "close_session", lambda: None))
    os.environ.update(names)
    renew()
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        renew()
