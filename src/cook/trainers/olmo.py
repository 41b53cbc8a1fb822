"""Write the target olmo-core: headerless memmaps, one document an example.

token_ids_part_00000.npy     ids, uint16 or uint32
labels_mask_part_00000.npy   bool, aligned to its own token; the trainer shifts ids and mask together
token_ids_part_00000.csv.gz  start,end of each document, in tokens, without a header
"""

from __future__ import annotations

import gzip
import itertools
from pathlib import Path

import numpy as np

from cook.core.errors import OutputError, write_error
from cook.core.files import fsync_file
from cook.trainers.job import ExportDone, ExportJob
from cook.trainers.rows import read_sequences


def id_dtype(vocab_size: int) -> type[np.unsignedinteger]:
    """The type of ids that OLMo-core assumes for a vocabulary of this size."""
    return np.uint16 if vocab_size - 1 <= np.iinfo(np.uint16).max else np.uint32


def write_olmo_core(job: ExportJob) -> ExportDone:
    """Write the three files of a part. Raises OutputError."""
    out, kind = Path(job.out), id_dtype(job.settings.vocab_size)
    ids, mask = out / f"token_ids_part_{job.index:05}.npy", out / f"labels_mask_part_{job.index:05}.npy"
    done = ExportDone((ids, mask, ids.with_suffix(".csv.gz")))
    try:
        with (
            ids.open("wb") as ids_file,
            mask.open("wb") as mask_file,
            done.files[2].open("wb") as packed,
            gzip.GzipFile("", "wb", fileobj=packed, mtime=0) as documents_file,  # no name and no time inside
        ):
            for rows in read_sequences(job.source):
                if len(rows.ids) and not 0 <= int(rows.ids.min()) <= int(rows.ids.max()) < job.settings.vocab_size:
                    raise OutputError(f"{job.source}: holds ids beyond the {job.settings.vocab_size:,} of its manifest")
                bounds = (rows.example_offsets + done.tokens).tolist()
                done.add(rows)
                done.rows += len(rows.lengths)
                ids_file.write(rows.ids.astype(kind).tobytes())
                mask_file.write(rows.mask.view(bool).tobytes())
                documents = itertools.pairwise(bounds)
                documents_file.write("".join(f"{start},{end}\n" for start, end in documents).encode())
        for path in done.files:
            fsync_file(path)
    except OSError as exc:
        raise write_error(exc.filename or out, exc) from exc
    return done
