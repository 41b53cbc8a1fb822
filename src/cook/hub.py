"""Files from the Hugging Face Hub, through its own client, whose cache and environment variables hold.

Every error of the client becomes a CookError that says what to do.
"""

from __future__ import annotations

from pathlib import Path

from cook.errors import TokenizerError


def tokenizer_file(repo: str, file: str) -> Path | None:
    """A file of a model repository, fetched or from the client's cache; None if the repository lacks it.

    Raises TokenizerError.
    """
    import huggingface_hub as hf
    from huggingface_hub import errors

    try:
        return Path(hf.hf_hub_download(repo, file))
    except errors.GatedRepoError as exc:  # a subclass of RepositoryNotFoundError: it comes first
        raise TokenizerError(
            f"{repo}: is gated; ask for access on its page on the Hub, then run `hf auth login` or set HF_TOKEN"
        ) from exc
    except errors.RepositoryNotFoundError as exc:
        raise TokenizerError(
            f"{repo}: no such repository on the Hub, or a private one: check its name, run `hf auth login`, "
            f"or pass ./{repo} for a folder"
        ) from exc
    except errors.LocalEntryNotFoundError as exc:
        # The client says this whenever it cannot ask the Hub, whatever the cause, and lacks it in its cache. That
        # a repository lacks a file is in the cache too, but only this call tells: by what is neither a path nor None.
        if not isinstance(hf.try_to_load_from_cache(repo, file), str | None):
            return None
        cause = f" ({_one_line(exc.__cause__)})" if exc.__cause__ else ""
        raise TokenizerError(
            f"{repo}: {file} is not in the local cache and cannot be fetched{cause}; once online, "
            f"`hf download {repo} {file}` puts it there"
        ) from exc
    except errors.EntryNotFoundError:
        return None
    except Exception as exc:  # transport errors of whichever HTTP library the client uses; OSError of a full disk
        raise TokenizerError(f"{repo}: {file} cannot be fetched: {_one_line(exc)}; try again") from exc


def _one_line(exc: BaseException) -> str:
    lines = (line.strip() for line in str(exc).splitlines())
    return "; ".join(line for line in lines if line and not line.startswith("For more information"))
